//! Redis's CRC-64: the polynomial of Jones, its bits reversed, from zero, and nothing done to the end (`crc64.c`).

const POLYNOMIAL: u64 = 0xad93_d235_94c9_35a9;

const TABLE: [u64; 256] = {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let mut value = byte as u64;
        let mut bit = 0;
        while bit < 8 {
            let is_odd = value & 1 == 1;
            value >>= 1;
            if is_odd {
                value ^= POLYNOMIAL.reverse_bits();
            }
            bit += 1;
        }
        table[byte] = value;
        byte += 1;
    }
    table
};

/// The sum of all bytes so far, with these behind them.
pub(in crate::component::redis) fn update(sum: u64, bytes: &[u8]) -> u64 {
    bytes.iter().fold(sum, |sum, byte| TABLE[usize::from(sum as u8 ^ byte)] ^ (sum >> 8))
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_sum_is_that_of_redis() {
        assert_eq!(super::update(0, b"123456789"), 0xe9c6_d914_c4b8_d9ca);
    }
}
