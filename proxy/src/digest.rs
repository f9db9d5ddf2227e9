//! MD5 of message bodies, many at once. Clients want it with every message (they check it against
//! damage, not against forgery). One block of each of eight bodies is worked on side by side in
//! arrays that compilers turn into vector instructions; a body that ends makes room for the next.
//!
//! Source: RFC 1321.

use std::array;

use bytes::Bytes;

/// Bodies worked on side by side when there are many.
const LANES: usize = 8;
/// From this many on it pays to keep all lanes going, some of them idle. Measured at 1 KiB and 64 KiB.
const BODIES_FOR_LANES: usize = 6;
const BLOCK: usize = 64;

/// One word of each of `N` lanes.
type Lanes<const N: usize> = [u32; N];
/// Four words of each lane.
type State<const N: usize> = [Lanes<N>; 4];
/// Sixteen words of each lane.
type Words<const N: usize> = [Lanes<N>; 16];

const INITIAL: [u32; 4] = [0x6745_2301, 0xefcd_ab89, 0x98ba_dcfe, 0x1032_5476];

/// How far each step rotates: four amounts a round, in turn.
const ROTATIONS: [[u32; 4]; 4] = [[7, 12, 17, 22], [5, 9, 14, 20], [4, 11, 16, 23], [6, 10, 15, 21]];

/// floor(2^32 × |sin(i + 1)|) for the 64 steps.
const SINES: [u32; 64] = [
    0xd76a_a478,
    0xe8c7_b756,
    0x2420_70db,
    0xc1bd_ceee,
    0xf57c_0faf,
    0x4787_c62a,
    0xa830_4613,
    0xfd46_9501,
    0x6980_98d8,
    0x8b44_f7af,
    0xffff_5bb1,
    0x895c_d7be,
    0x6b90_1122,
    0xfd98_7193,
    0xa679_438e,
    0x49b4_0821,
    0xf61e_2562,
    0xc040_b340,
    0x265e_5a51,
    0xe9b6_c7aa,
    0xd62f_105d,
    0x0244_1453,
    0xd8a1_e681,
    0xe7d3_fbc8,
    0x21e1_cde6,
    0xc337_07d6,
    0xf4d5_0d87,
    0x455a_14ed,
    0xa9e3_e905,
    0xfcef_a3f8,
    0x676f_02d9,
    0x8d2a_4c8a,
    0xfffa_3942,
    0x8771_f681,
    0x6d9d_6122,
    0xfde5_380c,
    0xa4be_ea44,
    0x4bde_cfa9,
    0xf6bb_4b60,
    0xbebf_bc70,
    0x289b_7ec6,
    0xeaa1_27fa,
    0xd4ef_3085,
    0x0488_1d05,
    0xd9d4_d039,
    0xe6db_99e5,
    0x1fa2_7cf8,
    0xc4ac_5665,
    0xf429_2244,
    0x432a_ff97,
    0xab94_23a7,
    0xfc93_a039,
    0x655b_59c3,
    0x8f0c_cc92,
    0xffef_f47d,
    0x8584_5dd1,
    0x6fa8_7e4f,
    0xfe2c_e6e0,
    0xa301_4314,
    0x4e08_11a1,
    0xf753_7e82,
    0xbd3a_f235,
    0x2ad7_d2bb,
    0xeb86_d391,
];

/// The digest as clients compare it: upper-case hexadecimal.
pub(crate) type Hex = [u8; 32];

/// The MD5 of every body, in order.
pub(crate) fn md5_hex(bodies: &[Bytes]) -> Vec<Hex> {
    if bodies.len() < BODIES_FOR_LANES { in_lanes::<1>(bodies) } else { in_lanes::<LANES>(bodies) }
}

fn in_lanes<const N: usize>(bodies: &[Bytes]) -> Vec<Hex> {
    let mut digests = vec![[0; 32]; bodies.len()];
    let mut waiting = bodies.iter().enumerate();
    let mut state: State<N> = INITIAL.map(|word| [word; N]);
    let mut lanes: [Option<Lane<'_>>; N] = [const { None }; N];
    loop {
        let mut words: Words<N> = [[0; N]; 16];
        let mut busy = false;
        for (at, lane) in lanes.iter_mut().enumerate() {
            if lane.is_none() {
                *lane = waiting.next().map(|(index, body)| Lane::new(index, body));
                for (row, word) in state.iter_mut().zip(INITIAL) {
                    row[at] = word;
                }
            }
            if let Some(lane) = lane {
                lane.load(&mut words, at);
                busy = true;
            }
        }
        if !busy {
            return digests;
        }
        compress(&mut state, &words);
        for (at, lane) in lanes.iter_mut().enumerate() {
            if let Some(done) = lane.take_if(|lane| lane.is_done()) {
                digests[done.index] = hex(state.map(|row| row[at]));
            }
        }
    }
}

/// One body on its way through a lane.
struct Lane<'a> {
    index: usize,
    rest: &'a [u8],
    bits: u64,
    /// The bit after the body has been written.
    marked: bool,
    /// The last block, which ends with the length, has been loaded.
    ended: bool,
}

impl<'a> Lane<'a> {
    fn new(index: usize, body: &'a [u8]) -> Self {
        Self { index, rest: body, bits: (body.len() as u64).wrapping_mul(8), marked: false, ended: false }
    }

    fn is_done(&self) -> bool {
        self.ended
    }

    /// Puts the next block into column `at`.
    fn load<const N: usize>(&mut self, words: &mut Words<N>, at: usize) {
        if let Some((block, rest)) = self.rest.split_first_chunk::<BLOCK>() {
            self.rest = rest;
            return spread(block, words, at);
        }
        let mut block = [0; BLOCK];
        block[..self.rest.len()].copy_from_slice(self.rest);
        let used = self.rest.len();
        if !self.marked {
            block[used] = 0x80;
            self.marked = true;
            // Less than nine bytes left: the length goes into a block of its own.
            self.ended = used < BLOCK - 8;
        } else {
            self.ended = true;
        }
        self.rest = &[];
        if self.ended {
            block[BLOCK - 8..].copy_from_slice(&self.bits.to_le_bytes());
        }
        spread(&block, words, at);
    }
}

fn spread<const N: usize>(block: &[u8; BLOCK], words: &mut Words<N>, at: usize) {
    let (chunks, _) = block.as_chunks::<4>();
    for (row, chunk) in words.iter_mut().zip(chunks) {
        row[at] = u32::from_le_bytes(*chunk);
    }
}

/// One block of every lane. An idle lane computes nonsense that nobody reads.
fn compress<const N: usize>(state: &mut State<N>, words: &Words<N>) {
    let before = *state;
    round::<0, N>(state, words, |i| i, |x, y, z| z ^ (x & (y ^ z)));
    round::<1, N>(state, words, |i| 5 * i + 1, |x, y, z| y ^ (z & (x ^ y)));
    round::<2, N>(state, words, |i| 3 * i + 5, |x, y, z| x ^ y ^ z);
    round::<3, N>(state, words, |i| 7 * i, |x, y, z| y ^ (x | !z));
    for (row, add) in state.iter_mut().zip(before) {
        for (word, more) in row.iter_mut().zip(add) {
            *word = word.wrapping_add(more);
        }
    }
}

/// Sixteen steps: `at` says which word each takes, `mix` is the function of the round. One copy for
/// each round, so that functions and rotations are known where the code is made.
#[inline(always)]
fn round<const ROUND: usize, const N: usize>(
    state: &mut State<N>,
    words: &Words<N>,
    at: impl Fn(usize) -> usize,
    mix: impl Fn(u32, u32, u32) -> u32 + Copy,
) {
    let [mut a, mut b, mut c, mut d] = *state;
    let [one, two, three, four] = ROTATIONS[ROUND];
    for i in [0, 4, 8, 12] {
        let sines = &SINES[16 * ROUND + i..16 * ROUND + i + 4];
        let word = |step| &words[at(i + step) % 16];
        a = step(a, b, c, d, word(0), sines[0], one, mix);
        d = step(d, a, b, c, word(1), sines[1], two, mix);
        c = step(c, d, a, b, word(2), sines[2], three, mix);
        b = step(b, c, d, a, word(3), sines[3], four, mix);
    }
    *state = [a, b, c, d];
}

/// One step of every lane.
#[inline(always)]
#[allow(clippy::too_many_arguments)] // four words of state and what the step does to them
fn step<const N: usize>(
    a: Lanes<N>,
    b: Lanes<N>,
    c: Lanes<N>,
    d: Lanes<N>,
    word: &Lanes<N>,
    sine: u32,
    rotation: u32,
    mix: impl Fn(u32, u32, u32) -> u32,
) -> Lanes<N> {
    array::from_fn(|i| {
        let sum = a[i].wrapping_add(mix(b[i], c[i], d[i])).wrapping_add(sine).wrapping_add(word[i]);
        sum.rotate_left(rotation).wrapping_add(b[i])
    })
}

fn hex(words: [u32; 4]) -> Hex {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    let mut text = [0; 32];
    let bytes = words.into_iter().flat_map(u32::to_le_bytes);
    for (pair, byte) in text.as_chunks_mut::<2>().0.iter_mut().zip(bytes) {
        *pair = [DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]];
    }
    text
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The definition, one body at a time and as plain as it gets.
    fn reference(body: &[u8]) -> String {
        let mut padded = body.to_vec();
        padded.push(0x80);
        while padded.len() % 64 != 56 {
            padded.push(0);
        }
        padded.extend((body.len() as u64 * 8).to_le_bytes());
        let mut state = INITIAL;
        for block in padded.chunks_exact(64) {
            let word = |i: usize| u32::from_le_bytes(block[i * 4..i * 4 + 4].try_into().expect("four bytes"));
            let [mut a, mut b, mut c, mut d] = state;
            for i in 0..64 {
                let (mixed, at) = match i / 16 {
                    0 => ((b & c) | (!b & d), i),
                    1 => ((d & b) | (!d & c), (5 * i + 1) % 16),
                    2 => (b ^ c ^ d, (3 * i + 5) % 16),
                    _ => (c ^ (b | !d), 7 * i % 16),
                };
                let sine = (f64::sin(i as f64 + 1.0).abs() * 4_294_967_296.0) as u32;
                let sum = a.wrapping_add(mixed).wrapping_add(sine).wrapping_add(word(at));
                (a, d, c) = (d, c, b);
                b = b.wrapping_add(sum.rotate_left(ROTATIONS[i / 16][i % 4]));
            }
            for (into, from) in state.iter_mut().zip([a, b, c, d]) {
                *into = into.wrapping_add(from);
            }
        }
        state.iter().flat_map(|word| word.to_le_bytes()).map(|byte| format!("{byte:02X}")).collect()
    }

    fn digests(bodies: &[Bytes]) -> Vec<String> {
        md5_hex(bodies).iter().map(|hex| String::from_utf8_lossy(hex).into_owned()).collect()
    }

    #[test]
    fn the_test_suite_of_the_rfc_holds() {
        let cases = [
            ("", "D41D8CD98F00B204E9800998ECF8427E"),
            ("a", "0CC175B9C0F1B6A831C399E269772661"),
            ("abc", "900150983CD24FB0D6963F7D28E17F72"),
            ("message digest", "F96B697D7CB7938D525A2F31AAF161D0"),
            ("abcdefghijklmnopqrstuvwxyz", "C3FCD3D76192E4007DFB496CCA67E13B"),
            ("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789", "D174AB98D277D9F5A5611C2C9F419D9F"),
            (
                "12345678901234567890123456789012345678901234567890123456789012345678901234567890",
                "57EDF4A22BE3C955AC49DA2E2107B67A",
            ),
        ];
        let bodies: Vec<Bytes> = cases.iter().map(|(text, _)| Bytes::from_static(text.as_bytes())).collect();
        assert_eq!(digests(&bodies), cases.map(|(_, digest)| digest));
        for (text, digest) in cases {
            assert_eq!(reference(text.as_bytes()), digest);
        }
    }

    #[test]
    fn every_length_around_a_block_is_right() {
        let bodies: Vec<Bytes> = (0..200).map(|n| Bytes::from(vec![0xa5; n])).collect();
        let expected: Vec<String> = bodies.iter().map(|b| reference(b)).collect();
        assert_eq!(digests(&bodies), expected);
    }

    proptest! {
        #[test]
        fn many_at_once_equal_one_at_a_time(
            bodies in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..1500), 0..40),
        ) {
            let bodies: Vec<Bytes> = bodies.into_iter().map(Bytes::from).collect();
            let expected: Vec<String> = bodies.iter().map(|b| reference(b)).collect();
            prop_assert_eq!(digests(&bodies), expected.clone());
            let one: Vec<String> = bodies.iter().flat_map(|b| digests(std::slice::from_ref(b))).collect();
            prop_assert_eq!(one, expected);
        }
    }
}
