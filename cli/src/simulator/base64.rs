//! Unpadded base64url, encoding only: what a token looks like needs no dependency.

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// Appends the unpadded base64url form of `bytes`.
pub(super) fn push(out: &mut String, bytes: &[u8]) {
    for chunk in bytes.chunks(3) {
        let mut group = [0_u8; 3];
        group[..chunk.len()].copy_from_slice(chunk);
        let bits = u32::from_be_bytes([0, group[0], group[1], group[2]]);
        // n bytes fill n + 1 characters.
        for place in 0..=chunk.len() {
            let sextet = (bits >> (18 - 6 * place)) & 0x3f;
            out.push(char::from(ALPHABET[sextet as usize]));
        }
    }
}

#[cfg(test)]
mod tests {
    fn encoded(text: &[u8]) -> String {
        let mut out = String::new();
        super::push(&mut out, text);
        out
    }

    #[test]
    fn encodes_every_remainder() {
        assert_eq!(encoded(b""), "");
        assert_eq!(encoded(b"f"), "Zg");
        assert_eq!(encoded(b"fo"), "Zm8");
        assert_eq!(encoded(b"foo"), "Zm9v");
        assert_eq!(encoded(b"foob"), "Zm9vYg");
        assert_eq!(encoded(b"608103"), "NjA4MTAz");
        assert_eq!(encoded(&[0xfb, 0xff, 0xfe]), "-__-");
    }
}
