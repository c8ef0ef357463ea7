//! New inputs out of old ones.

/// No input is longer.
const LONGEST: usize = 16 * 1_024;

/// Bytes that mean something in one of the formats, or nothing in any.
const BYTES: &[u8] = b"\0\x01\t\n\r \"'\\/#%&+,.:;=[]{}{}-0e\x7f\x80\xc3\xff";

/// Numbers at the borders of their types.
const NUMBERS: [&str; 14] = [
    "0",
    "-0",
    "-1",
    "1",
    "0.1",
    "1e1",
    "1e-400",
    "1e309",
    "2147483648",
    "4294967296",
    "9223372036854775807",
    "-9223372036854775808",
    "18446744073709551616",
    "253402300800",
];

/// Numbers from a seed (SplitMix64): the same for the same seed and case, so that one case can be made again alone.
pub(crate) struct Generator(u64);

impl Generator {
    pub(crate) fn new(seed: u64, case: u64) -> Self {
        let mut generator = Self(seed.rotate_left(32) ^ case);
        Self(generator.next())
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Below `bound`, and 0 where that is 0.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next().checked_rem(bound as u64).unwrap_or(0)).unwrap_or(0)
    }

    fn one_of<'a, T>(&mut self, choices: &'a [T]) -> Option<&'a T> {
        choices.get(self.below(choices.len()))
    }

    /// A part of something of this length: mostly short, now and then any.
    fn range(&mut self, length: usize) -> std::ops::Range<usize> {
        let start = self.below(length + 1);
        let most = if self.below(4) == 0 { length } else { 16 };
        start..(start + self.below(most + 1)).min(length)
    }
}

/// A mutation of `base`, with parts of `other` and words of the format.
pub(crate) fn mutated(generator: &mut Generator, base: &[u8], other: &[u8], dictionary: &[&str]) -> Vec<u8> {
    let mut input = base.to_vec();
    // Mostly one: what is changed in many places is refused at the first.
    for _ in 0..=generator.below(4) * generator.below(2) {
        mutate(generator, &mut input, other, dictionary);
        input.truncate(LONGEST);
    }
    input
}

fn mutate(generator: &mut Generator, input: &mut Vec<u8>, other: &[u8], dictionary: &[&str]) {
    let here = generator.range(input.len());
    let word = || dictionary.iter().copied().map(str::as_bytes);
    match generator.below(16) {
        0 => {
            let bit = generator.below(8);
            if let Some(byte) = input.get_mut(here.start) {
                *byte ^= 1 << bit;
            }
        }
        1 => {
            let new = generator.one_of(BYTES).copied().unwrap_or_default();
            if let Some(byte) = input.get_mut(here.start) {
                *byte = new;
            }
        }
        2 => drop(input.drain(here)),
        3 => input.truncate(here.start),
        4 => {
            let part = input[here.clone()].to_vec();
            input.splice(here.end..here.end, part);
        }
        // Also how nesting becomes deep.
        5 => {
            let part = input[here.clone()].repeat(1 + generator.below(500));
            input.splice(here.end..here.end, part);
        }
        6 => {
            let words: Vec<&[u8]> = word().collect();
            let word = generator.one_of(&words).copied().unwrap_or_default();
            input.splice(here.start..here.start, word.iter().copied());
        }
        7 => {
            let words: Vec<&[u8]> = word().collect();
            let word = generator.one_of(&words).copied().unwrap_or_default();
            input.splice(here, word.iter().copied());
        }
        8 => {
            input.truncate(here.start);
            input.extend_from_slice(&other[generator.range(other.len()).start..]);
        }
        9 => {
            let part = &other[generator.range(other.len())];
            input.splice(here.start..here.start, part.iter().copied());
        }
        10..13 => {
            let number = generator.one_of(&NUMBERS).copied().unwrap_or_default();
            let place = number_behind(input, here.start).unwrap_or(here);
            input.splice(place, number.bytes());
        }
        // What stands in quotes becomes something else in quotes.
        _ => {
            let words: Vec<&[u8]> = word().collect();
            let word = generator.one_of(&words).copied().unwrap_or_default();
            let place = quoted_behind(input, here.start).unwrap_or(here);
            input.splice(place, word.iter().copied());
        }
    }
}

/// The first run of digits at or behind this place.
fn number_behind(input: &[u8], from: usize) -> Option<std::ops::Range<usize>> {
    let start = from + input[from..].iter().position(u8::is_ascii_digit)?;
    let length = input[start..].iter().take_while(|byte| byte.is_ascii_digit()).count();
    Some(start..start + length)
}

/// The inside of the first quotes at or behind this place.
fn quoted_behind(input: &[u8], from: usize) -> Option<std::ops::Range<usize>> {
    let start = from + input[from..].iter().position(|byte| *byte == b'"')? + 1;
    let length = input[start..].iter().position(|byte| *byte == b'"')?;
    Some(start..start + length)
}
