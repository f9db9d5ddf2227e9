//! Counts open connections, in all and by address, and refuses those beyond the caps.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// Admits connections up to its caps.
#[derive(Debug)]
pub(crate) struct Gate {
    connections_max: u32,
    per_address_max: u32,
    open: Mutex<Open>,
}

#[derive(Debug, Default)]
struct Open {
    total: u32,
    by_address: HashMap<IpAddr, u32>,
}

/// One admitted connection; dropping it makes room.
#[derive(Debug)]
pub(crate) struct Permit {
    gate: Arc<Gate>,
    address: IpAddr,
}

/// Which cap a connection ran into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    Total,
    Address,
}

impl Gate {
    pub(crate) fn new(connections_max: u32, per_address_max: u32) -> Arc<Self> {
        Arc::new(Self { connections_max, per_address_max, open: Mutex::default() })
    }

    /// Admits one more connection from `peer`.
    ///
    /// Errors: which cap is reached.
    pub(crate) fn admit(self: &Arc<Self>, peer: IpAddr) -> Result<Permit, Refusal> {
        let address = network(peer);
        let mut open = self.open();
        if open.total >= self.connections_max {
            return Err(Refusal::Total);
        }
        let of_address = open.by_address.entry(address).or_default();
        if *of_address >= self.per_address_max {
            return Err(Refusal::Address);
        }
        *of_address += 1;
        open.total += 1;
        Ok(Permit { gate: self.clone(), address })
    }

    fn open(&self) -> MutexGuard<'_, Open> {
        // Nothing between lock and unlock can leave the counts half changed.
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut open = self.gate.open();
        open.total -= 1;
        if let Some(count) = open.by_address.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                open.by_address.remove(&self.address);
            }
        }
    }
}

/// What counts as one address: IPv6 hosts own networks of 64 bits.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => {
            let s = v6.segments();
            Ipv6Addr::new(s[0], s[1], s[2], s[3], 0, 0, 0, 0).into()
        }
        v4 @ IpAddr::V4(_) => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn caps_hold_and_room_comes_back() {
        let gate = Gate::new(3, 2);
        let first = gate.admit(address("10.0.0.1")).expect("room");
        let _second = gate.admit(address("10.0.0.1")).expect("room");
        assert_eq!(gate.admit(address("::ffff:10.0.0.1")).err(), Some(Refusal::Address));
        let _third = gate.admit(address("2001:db8::1")).expect("room");
        assert_eq!(gate.admit(address("10.0.0.2")).err(), Some(Refusal::Total));
        drop(first);
        assert!(gate.admit(address("10.0.0.1")).is_ok());
    }

    #[test]
    fn neighbours_in_one_v6_network_count_together() {
        let gate = Gate::new(9, 1);
        let _permit = gate.admit(address("2001:db8::1")).expect("room");
        assert_eq!(gate.admit(address("2001:db8::ffff")).err(), Some(Refusal::Address));
        assert!(gate.admit(address("2001:db8:0:1::1")).is_ok());
        assert_eq!(gate.open().by_address.len(), 1, "a refused or closed address leaves nothing behind");
    }
}
