//! The end of a token that only its maker can write: a keyed BLAKE3 over what stands before it.

/// Bytes of a seal.
pub(crate) const TAG: usize = 15;

pub(crate) fn tag(key: &[u8; 32], signed: &[u8]) -> [u8; TAG] {
    let hash = blake3::keyed_hash(key, signed);
    let mut tag = [0; TAG];
    tag.copy_from_slice(&hash.as_bytes()[..TAG]);
    tag
}

/// Compares without telling by its time how much was equal.
pub(crate) fn same(a: &[u8; TAG], b: &[u8]) -> bool {
    a.iter().zip(b).fold(0, |difference, (x, y)| difference | (x ^ y)) == 0
}
