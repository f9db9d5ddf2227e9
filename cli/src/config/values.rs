//! How single values are written: durations, sizes, addresses, words. Every reader takes text and
//! says in its error what it accepts, so that one set of readers serves files, environment and flags.

use std::{
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

const KIB: u64 = 1 << 10;

/// Binary units first: the first one that fits is used for printing.
const SIZE_UNITS: [(&str, u64); 9] = [
    ("TiB", KIB * KIB * KIB * KIB),
    ("GiB", KIB * KIB * KIB),
    ("MiB", KIB * KIB),
    ("KiB", KIB),
    ("TB", 1_000_000_000_000),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("kB", 1_000),
    ("B", 1),
];

const DURATION_UNITS: [(&str, u64); 5] = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

/// Reads a duration such as `500ms`, `30s` or `1m30s`; the unit is never guessed.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text:?} is not a duration; write it like \"500ms\", \"30s\", \"1m30s\", \"2h\" or \"3d\"");
    let mut rest = text.trim();
    let mut total_ms = 0u64;
    if rest == "0" {
        return Ok(Duration::ZERO);
    }
    if rest.is_empty() {
        return Err(wrong());
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?;
        let number: u64 = rest[..digits].parse().map_err(|_| wrong())?;
        let after = &rest[digits..];
        let unit_end = after.find(|c: char| c.is_ascii_digit()).unwrap_or(after.len());
        let unit = DURATION_UNITS.iter().find(|(name, _)| *name == &after[..unit_end]).ok_or_else(wrong)?;
        total_ms = number.checked_mul(unit.1).and_then(|ms| total_ms.checked_add(ms)).ok_or_else(wrong)?;
        rest = &after[unit_end..];
    }
    Ok(Duration::from_millis(total_ms))
}

/// Reads a duration within bounds.
pub(crate) fn duration_within(text: &str, least: Duration, most: Duration) -> Result<Duration, String> {
    let value = duration(text)?;
    if value < least || value > most {
        let (least, most) = (Format::duration(least), Format::duration(most));
        return Err(format!("{text:?} is out of bounds; {least} to {most} is allowed"));
    }
    Ok(value)
}

/// Reads a number of bytes such as `64KiB`, `4MB` or `4194304`.
pub(crate) fn size(text: &str) -> Result<u64, String> {
    let wrong = || format!("{text:?} is not a size; write it like \"64KiB\", \"1GiB\", \"4MB\" or a number of bytes");
    let text_trimmed = text.trim();
    let digits = text_trimmed.find(|c: char| !c.is_ascii_digit()).unwrap_or(text_trimmed.len());
    let number: u64 = text_trimmed[..digits].parse().map_err(|_| wrong())?;
    let unit = text_trimmed[digits..].trim_start();
    if unit.is_empty() {
        return Ok(number);
    }
    let unit = SIZE_UNITS.iter().find(|(name, _)| name.eq_ignore_ascii_case(unit)).ok_or_else(wrong)?;
    number.checked_mul(unit.1).ok_or_else(wrong)
}

/// Reads a size within bounds, in bytes.
pub(crate) fn size_within(text: &str, least: u64, most: u64) -> Result<u64, String> {
    let value = size(text)?;
    if value < least || value > most {
        let (least, most) = (Format::size(least), Format::size(most));
        return Err(format!("{text:?} is out of bounds; {least} to {most} is allowed"));
    }
    Ok(value)
}

/// Reads a whole number within bounds.
pub(crate) fn number_within(text: &str, least: u32, most: u32) -> Result<u32, String> {
    match text.trim().parse() {
        Ok(value) if (least..=most).contains(&value) => Ok(value),
        _ => Err(format!("{text:?} is not a number from {least} to {most}")),
    }
}

/// Reads yes or no.
pub(crate) fn boolean(text: &str) -> Result<bool, String> {
    match text.trim().to_ascii_lowercase().as_str() {
        "true" | "1" | "yes" | "on" => Ok(true),
        "false" | "0" | "no" | "off" => Ok(false),
        _ => Err(format!("{text:?} is not true or false")),
    }
}

/// Reads an address to listen on: `host:port`, `[v6]:port`, or `:port` for all interfaces.
pub(crate) fn listen(text: &str) -> Result<SocketAddr, String> {
    let text = text.trim();
    let parsed = match text.rsplit_once(':') {
        Some(("", port)) => port.parse().ok().map(|port| (Ipv4Addr::UNSPECIFIED, port).into()),
        Some(("localhost", port)) => port.parse().ok().map(|port| (Ipv4Addr::LOCALHOST, port).into()),
        _ => text.parse().ok(),
    };
    parsed.ok_or_else(|| {
        format!("{text:?} is not an address to listen on; write it like \"127.0.0.1:8081\", \"[::]:8081\" or \":8081\"")
    })
}

/// Reads an address to dial: `host:port`.
pub(crate) fn dial(text: &str) -> Result<String, String> {
    let text = text.trim();
    let found = host_and_port(text).map(|_| text.to_owned());
    found.ok_or_else(|| format!("{text:?} is not an address; write it like \"host:8081\""))
}

/// Takes an address to dial apart; an IPv6 host loses its brackets.
pub(crate) fn host_and_port(address: &str) -> Option<(&str, u16)> {
    let (host, port) = address.rsplit_once(':')?;
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    let port = port.parse().ok().filter(|port| *port != 0)?;
    (!host.is_empty()).then_some((host, port))
}

/// Reads one of several words.
pub(crate) fn word<T: Copy>(text: &str, words: &[(&str, T)]) -> Result<T, String> {
    let wanted = text.trim();
    let found = words.iter().find(|(name, _)| name.eq_ignore_ascii_case(wanted));
    found.map(|(_, value)| *value).ok_or_else(|| {
        let names: Vec<_> = words.iter().map(|(name, _)| *name).collect();
        format!("{text:?} is not one of {}", names.join(", "))
    })
}

/// Writes values so that they can be read again.
pub(crate) struct Format;

impl Format {
    pub(crate) fn duration(value: Duration) -> String {
        let ms = u64::try_from(value.as_millis()).unwrap_or(u64::MAX);
        match DURATION_UNITS.iter().find(|(_, unit)| ms > 0 && ms.is_multiple_of(*unit)) {
            Some((name, unit)) => format!("{}{name}", ms / unit),
            None => "0s".to_owned(),
        }
    }

    pub(crate) fn size(bytes: u64) -> String {
        match SIZE_UNITS.iter().find(|(_, unit)| bytes > 0 && bytes.is_multiple_of(*unit)) {
            Some((name, unit)) => format!("{}{name}", bytes / unit),
            None => "0B".to_owned(),
        }
    }

    pub(crate) fn word<T: PartialEq>(value: &T, words: &[(&'static str, T)]) -> String {
        words.iter().find(|(_, known)| known == value).map(|(name, _)| (*name).to_owned()).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_need_a_unit() {
        for (text, ms) in
            [("500ms", 500), ("30s", 30_000), ("1m30s", 90_000), ("2h", 7_200_000), ("3d", 259_200_000), ("0", 0)]
        {
            assert_eq!(duration(text), Ok(Duration::from_millis(ms)), "{text}");
        }
        for text in ["", "30", "s", "-1s", "1.5s", "1w", "99999999999999999999s", "213503982335d9d"] {
            let error = duration(text).expect_err(text);
            assert!(error.contains("\"30s\""), "{error}");
        }
    }

    #[test]
    fn sizes_may_be_bytes() {
        for (text, bytes) in [("0", 0), ("4194304", 4 << 20), ("64KiB", 65_536), ("1 GiB", 1 << 30), ("4mb", 4_000_000)]
        {
            assert_eq!(size(text), Ok(bytes), "{text}");
        }
        for text in ["", "KiB", "1.5GiB", "-1", "1XB", "99999999999999TiB"] {
            assert!(size(text).is_err(), "{text}");
        }
    }

    #[test]
    fn what_is_written_can_be_read() {
        for ms in [0, 1, 999, 1_000, 60_000, 90_000, 86_400_000] {
            let value = Duration::from_millis(ms);
            assert_eq!(duration(&Format::duration(value)), Ok(value));
        }
        for bytes in [0, 1, 1_000, 1_024, 1_500, 256 << 20, u64::MAX] {
            assert_eq!(size(&Format::size(bytes)), Ok(bytes));
        }
    }

    #[test]
    fn addresses_to_listen_on() {
        assert_eq!(listen(":8081").map(|a| a.to_string()), Ok("0.0.0.0:8081".into()));
        assert_eq!(listen("localhost:0").map(|a| a.to_string()), Ok("127.0.0.1:0".into()));
        assert_eq!(listen("[::]:8081").map(|a| a.to_string()), Ok("[::]:8081".into()));
        for text in ["8081", "host", "127.0.0.1", "127.0.0.1:70000", ""] {
            assert!(listen(text).is_err(), "{text}");
        }
        assert!(dial("broker.example:8081").is_ok());
        assert!(dial("broker.example").is_err());
    }
}
