//! CRC-32C, bit by bit: a header that carries one has some hundred bytes, and comes once per connection. A table of 1 KiB
//! would cost more than it saves.
//!
//! Source: RFC 3720, appendix B.4; the polynomial of Castagnoli, reflected.

const POLYNOMIAL: u32 = 0x82F6_3B78;

/// The checksum of all bytes.
pub(super) fn crc32c(bytes: impl Iterator<Item = u8>) -> u32 {
    !bytes.fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| {
            (crc >> 1) ^ (POLYNOMIAL & (crc & 1).wrapping_neg())
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_examples_of_the_rfc_come_out() {
        assert_eq!(crc32c([0; 32].into_iter()), 0x8A91_36AA);
        assert_eq!(crc32c([0xFF; 32].into_iter()), 0x62A8_AB43);
        assert_eq!(crc32c(0..32), 0x46DD_794E);
        assert_eq!(crc32c(b"123456789".iter().copied()), 0xE306_9283);
    }
}
