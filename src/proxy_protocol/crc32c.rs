//! The checksum of version 2: CRC-32C (RFC 4960 appendix B). Bit by bit: one header a connection,
//! if any, is not worth a table.

const REVERSED_POLYNOMIAL: u32 = 0x82f6_3b78;

/// Of all the bytes, one after the other.
pub(super) fn crc32c<'b>(bytes: impl IntoIterator<Item = &'b u8>) -> u32 {
    !bytes.into_iter().fold(!0, |crc: u32, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            (crc >> 1) ^ (REVERSED_POLYNOMIAL & (crc & 1).wrapping_neg())
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 3720 B.4.
    #[test]
    fn known_values() {
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
        assert_eq!(crc32c(&[0; 32]), 0x8a91_36aa);
        assert_eq!(crc32c(&[0xff; 32]), 0x62a8_ab43);
        let rising: Vec<u8> = (0..32).collect();
        assert_eq!(crc32c(&rising), 0x46dd_794e);
    }
}
