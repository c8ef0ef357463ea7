//! An id of its own for each call, where a provider wants one.

use uuid::Builder;

/// A random UUID (RFC 9562, version 4), from numbers drawn uniformly.
pub fn request_id(mut random: impl FnMut() -> u64) -> String {
    let drawn = (u128::from(random()) << 64) | u128::from(random());
    Builder::from_random_bytes(drawn.to_be_bytes()).into_uuid().hyphenated().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_a_random_uuid_of_its_own() {
        let mut numbers = [u64::MAX, u64::MAX, 1, 2].into_iter();
        let mut draw = || request_id(|| numbers.next().unwrap());
        assert_eq!(draw(), "ffffffff-ffff-4fff-bfff-ffffffffffff");
        assert_eq!(draw(), "00000000-0000-4001-8000-000000000002");
    }
}
