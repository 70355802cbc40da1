//! `config`: the repository's version, its id and a polynomial.
//!
//! restic cuts chunks with the polynomial; Belay does not, but restic refuses a repository without a valid one:
//! irreducible over GF(2) and of degree 53.

use super::FormatError;
use super::crypto::MasterKey;
use crate::model::id::FileId;
use serde::{Deserialize, Serialize};

/// The version of the format that Belay reads and writes.
pub const VERSION: u32 = 2;
const DEGREE: u32 = 53;

/// The content of `config`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfigFile {
    /// [`VERSION`].
    pub version: u32,
    /// The repository's id: random.
    pub id: FileId,
    /// In hexadecimal digits, highest bit first.
    pub chunker_polynomial: String,
}

impl ConfigFile {
    /// The configuration of a new repository.
    pub fn random() -> Result<Self, getrandom::Error> {
        let mut id = [0; 32];
        getrandom::fill(&mut id)?;
        let chunker_polynomial = format!("{:x}", random_irreducible_polynomial()?);
        Ok(Self { version: VERSION, id: FileId(id), chunker_polynomial })
    }

    /// As stored: sealed JSON, never compressed.
    pub fn seal(&self, key: &MasterKey) -> Result<Vec<u8>, FormatError> {
        let json = serde_json::to_vec(self).map_err(FormatError::invalid)?;
        key.seal(&json).map_err(FormatError::invalid)
    }

    /// From the bytes stored.
    pub fn open(key: &MasterKey, sealed: &[u8]) -> Result<Self, FormatError> {
        let config: Self =
            serde_json::from_slice(&key.open(sealed)?).map_err(FormatError::invalid)?;
        if config.version != VERSION {
            let version = config.version;
            return Err(FormatError::invalid(format!(
                "the repository has format version {version}, and this program works with version {VERSION}"
            )));
        }
        Ok(config)
    }
}

fn random_irreducible_polynomial() -> Result<u64, getrandom::Error> {
    loop {
        // About one in 53 polynomials of this degree is irreducible.
        let candidate = (getrandom::u64()? & ((1 << DEGREE) - 1)) | (1 << DEGREE) | 1;
        if is_irreducible(candidate) {
            return Ok(candidate);
        }
    }
}

/// Rabin's test. The degree is prime, so f is irreducible when x^(2^53) = x modulo f and f shares no factor with x^2 - x.
fn is_irreducible(polynomial: u64) -> bool {
    const X: u64 = 2;
    let mut power = X;
    for _ in 0..DEGREE {
        power = square_modulo(power, polynomial);
    }
    power == X && greatest_common_divisor(polynomial, square_modulo(X, polynomial) ^ X) == 1
}

fn square_modulo(polynomial: u64, modulus: u64) -> u64 {
    let mut result = 0;
    for bit in (0..DEGREE).rev() {
        result <<= 1;
        if result >> DEGREE & 1 == 1 {
            result ^= modulus;
        }
        if polynomial >> bit & 1 == 1 {
            result ^= polynomial;
        }
    }
    result
}

fn greatest_common_divisor(mut a: u64, mut b: u64) -> u64 {
    while b != 0 {
        while a != 0 && a.ilog2() >= b.ilog2() {
            a ^= b << (a.ilog2() - b.ilog2());
        }
        (a, b) = (b, a);
    }
    a
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn irreducible_polynomials_are_told() {
        // restic's own test vectors: the polynomial of its documents is irreducible.
        assert!(is_irreducible(0x003d_a335_8b4d_c173));
        // x^53 + 1 has the factor x + 1.
        assert!(!is_irreducible((1 << 53) | 1));
        // A product: (x^26 + x^6 + x^2 + x + 1)(x^27 + x^5 + x^2 + x + 1) by carry-less multiplication.
        let (a, b) = (0x0400_0047_u64, 0x0800_0027_u64);
        let product = (0..28).filter(|bit| b >> bit & 1 == 1).fold(0, |sum, bit| sum ^ (a << bit));
        assert_eq!(product.ilog2(), 53);
        assert!(!is_irreducible(product));
    }

    #[test]
    fn a_configuration_reads_back_and_other_versions_are_refused() {
        let key = MasterKey::from_bytes(&[5; 64]);
        let config = ConfigFile::random().unwrap();
        assert!(config.chunker_polynomial.len() == 14, "degree 53");
        assert_eq!(ConfigFile::open(&key, &config.seal(&key).unwrap()).unwrap(), config);
        let old = ConfigFile { version: 1, ..config };
        assert!(ConfigFile::open(&key, &old.seal(&key).unwrap()).is_err());
    }
}
