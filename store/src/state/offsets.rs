//! Ascending offsets as the log writes them: the first one, then distances.

/// Packs ascending offsets.
pub fn pack(offsets: impl IntoIterator<Item = u64>) -> Vec<u64> {
    let mut before = 0;
    let distance = |offset: u64| {
        let distance = offset - before;
        before = offset;
        distance
    };
    offsets.into_iter().map(distance).collect()
}

/// The offsets again; a hostile sum stops at the largest number instead of wrapping.
pub fn unpack(packed: &[u64]) -> impl Iterator<Item = u64> {
    packed.iter().scan(0u64, |at, distance| {
        *at = at.saturating_add(*distance);
        Some(*at)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offsets_come_back_as_they_went() {
        for offsets in [vec![], vec![0], vec![5, 6, 7, 100]] {
            assert_eq!(unpack(&pack(offsets.iter().copied())).collect::<Vec<_>>(), offsets);
        }
        assert_eq!(pack([5, 6, 7, 100]), [5, 1, 1, 93]);
    }
}
