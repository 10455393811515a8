//! Numbers that look random and come again with their seed, and mutations made by them.

/// A generator (`SplitMix64`). Not for secrets.
#[derive(Clone, Debug)]
pub struct Random(u64);

/// What parsers are known to stumble over.
const MORSELS: [&[u8]; 20] = [
    b"\0",
    b"\r\n",
    b"\xff",
    b"\xc3\x28",
    b"\xed\xa0\x80",
    b"\xef\xbb\xbf",
    "\u{202e}".as_bytes(),
    "é".as_bytes(),
    b"\\ud800",
    b"\"",
    b"{",
    b"[[[[[[[[[[[[[[[[",
    b"}",
    b":",
    b",",
    b"%",
    b"-1",
    b"1e999",
    b"18446744073709551616",
    b"null",
];

impl Random {
    /// A generator whose numbers depend on nothing but the seed.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number.
    #[expect(
        clippy::should_implement_trait,
        reason = "an iterator that never ends would only get in the way"
    )]
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `end`, which must not be zero.
    pub fn below(&mut self, end: usize) -> usize {
        let end = u64::try_from(end).expect("no machine has more");
        usize::try_from(self.next() % end).expect("it is less than a `usize`")
    }

    /// The bytes with one to four changes: a bit, a byte, a part doubled or left out, or something
    /// put in that parsers stumble over.
    pub fn mutate(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut bytes = bytes.to_vec();
        for _ in 0..=self.below(4) {
            let at = self.below(bytes.len() + 1);
            match self.below(6) {
                0 if at < bytes.len() => bytes[at] ^= 1 << self.below(8),
                1 if at < bytes.len() => bytes[at] = self.next().to_le_bytes()[0],
                2 => bytes.truncate(at),
                3 => {
                    let end = at + self.below(bytes.len() - at + 1).min(64);
                    bytes.drain(at..end);
                }
                4 => {
                    let end = at + self.below(bytes.len() - at + 1).min(64);
                    let part = bytes[at..end].to_vec();
                    bytes.splice(at..at, part);
                }
                _ => {
                    let morsel = MORSELS[self.below(MORSELS.len())];
                    bytes.splice(at..at, morsel.iter().copied());
                }
            }
        }
        bytes
    }
}
