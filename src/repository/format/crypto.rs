//! Encryption of every unit of a repository: 16 random bytes (the initial counter), AES-256-CTR ciphertext, and a
//! Poly1305-AES tag of 16 bytes over the ciphertext.
//!
//! The tag's one-time key is `r ‖ AES-128(k, counter)`, as in Bernstein's Poly1305-AES; restic's design document has the same.

use super::FormatError;
use aes::cipher::{BlockCipherEncrypt as _, KeyInit as _, KeyIvInit as _, StreamCipher as _};
use aes::{Aes128, Aes256};
use poly1305::Poly1305;
use sha2::{Digest as _, Sha256};
use zeroize::{Zeroize as _, ZeroizeOnDrop};

/// Bytes of the initial counter.
const COUNTER_BYTES: usize = 16;
/// Bytes of the tag.
const TAG_BYTES: usize = 16;
/// How much longer a sealed unit is than its plaintext.
pub const OVERHEAD: usize = COUNTER_BYTES + TAG_BYTES;

/// The keys that seal every unit of a repository (or, from a password, its key file). Never shown.
#[derive(Clone, ZeroizeOnDrop)]
pub struct MasterKey {
    pub(super) encrypt: [u8; 32],
    pub(super) mac_k: [u8; 16],
    pub(super) mac_r: [u8; 16],
}

impl std::fmt::Debug for MasterKey {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("MasterKey(hidden)")
    }
}

impl MasterKey {
    /// A fresh random key. Fails only where the system has no randomness.
    pub fn random() -> Result<Self, getrandom::Error> {
        let mut bytes = [0; 64];
        getrandom::fill(&mut bytes)?;
        let key = Self::from_bytes(&bytes);
        bytes.zeroize();
        Ok(key)
    }

    /// Encryption key (32 bytes), `k` (16) and `r` (16), in this order.
    pub fn from_bytes(bytes: &[u8; 64]) -> Self {
        let mut key = Self { encrypt: [0; 32], mac_k: [0; 16], mac_r: [0; 16] };
        key.encrypt.copy_from_slice(&bytes[..32]);
        key.mac_k.copy_from_slice(&bytes[32..48]);
        key.mac_r.copy_from_slice(&bytes[48..]);
        key
    }

    /// A secret of this repository for another purpose, named by `purpose`: the SHA-256 sum of the purpose and all keys.
    pub fn derive(&self, purpose: &[u8]) -> [u8; 32] {
        let mut digest = Sha256::new();
        for part in [purpose, &self.encrypt, &self.mac_k, &self.mac_r] {
            digest.update((part.len() as u64).to_le_bytes());
            digest.update(part);
        }
        digest.finalize().into()
    }

    /// Append `plaintext`, sealed, to `out`.
    pub fn seal_into(&self, plaintext: &[u8], out: &mut Vec<u8>) -> Result<(), getrandom::Error> {
        let mut counter = [0; COUNTER_BYTES];
        getrandom::fill(&mut counter)?;
        let start = out.len() + COUNTER_BYTES;
        out.reserve(plaintext.len() + OVERHEAD);
        out.extend_from_slice(&counter);
        out.extend_from_slice(plaintext);
        self.apply_keystream(&counter, &mut out[start..]);
        let tag = self.tag(&counter, &out[start..]);
        out.extend_from_slice(&tag);
        Ok(())
    }

    /// `plaintext`, sealed.
    pub fn seal(&self, plaintext: &[u8]) -> Result<Vec<u8>, getrandom::Error> {
        let mut out = Vec::new();
        self.seal_into(plaintext, &mut out)?;
        Ok(out)
    }

    /// The plaintext of a sealed unit, once its tag has been verified.
    pub fn open(&self, sealed: &[u8]) -> Result<Vec<u8>, FormatError> {
        let mut plaintext = Vec::new();
        self.open_into(sealed, &mut plaintext)?;
        Ok(plaintext)
    }

    /// Replace `plaintext` by that of a sealed unit, once its tag has been verified.
    pub fn open_into(&self, sealed: &[u8], plaintext: &mut Vec<u8>) -> Result<(), FormatError> {
        let too_short = FormatError::TooShort { found: sealed.len(), least: OVERHEAD };
        let (counter, rest) = sealed.split_first_chunk::<COUNTER_BYTES>().ok_or(too_short)?;
        let too_short = FormatError::TooShort { found: sealed.len(), least: OVERHEAD };
        let (ciphertext, tag) = rest.split_last_chunk::<TAG_BYTES>().ok_or(too_short)?;
        if !equal_in_constant_time(&self.tag(counter, ciphertext), tag) {
            return Err(FormatError::Forged);
        }
        plaintext.clear();
        plaintext.extend_from_slice(ciphertext);
        self.apply_keystream(counter, plaintext);
        Ok(())
    }

    fn apply_keystream(&self, counter: &[u8; COUNTER_BYTES], bytes: &mut [u8]) {
        ctr::Ctr128BE::<Aes256>::new(&self.encrypt.into(), &(*counter).into())
            .apply_keystream(bytes);
    }

    fn tag(&self, counter: &[u8; COUNTER_BYTES], ciphertext: &[u8]) -> [u8; TAG_BYTES] {
        let mut nonce = (*counter).into();
        Aes128::new(&self.mac_k.into()).encrypt_block(&mut nonce);
        let mut one_time_key = [0; 32];
        one_time_key[..16].copy_from_slice(&self.mac_r);
        one_time_key[16..].copy_from_slice(&nonce);
        let tag = Poly1305::new(&one_time_key.into()).compute_unpadded(ciphertext);
        one_time_key.zeroize();
        tag.into()
    }
}

fn equal_in_constant_time(a: &[u8; TAG_BYTES], b: &[u8; TAG_BYTES]) -> bool {
    a.iter().zip(b).fold(0, |difference, (x, y)| difference | (x ^ y)) == 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn key() -> MasterKey {
        MasterKey::from_bytes(&std::array::from_fn(|index| index as u8))
    }

    proptest! {
        #[test]
        fn what_is_sealed_opens_again_and_a_flipped_bit_does_not(
            plaintext in proptest::collection::vec(any::<u8>(), 0..2000),
            bit in any::<prop::sample::Index>(),
        ) {
            let mut sealed = key().seal(&plaintext).unwrap();
            prop_assert_eq!(sealed.len(), plaintext.len() + OVERHEAD);
            prop_assert_eq!(key().open(&sealed).unwrap(), plaintext);
            let bit = bit.index(sealed.len() * 8);
            sealed[bit / 8] ^= 1 << (bit % 8);
            prop_assert_eq!(key().open(&sealed), Err(FormatError::Forged));
        }
    }

    #[test]
    fn what_is_too_short_is_refused() {
        for length in 0..OVERHEAD {
            let expected = FormatError::TooShort { found: length, least: OVERHEAD };
            assert_eq!(key().open(&vec![0; length]), Err(expected));
        }
    }

    #[test]
    fn the_tag_is_poly1305_aes_as_its_author_published_it() {
        // From the last page of Bernstein, "The Poly1305-AES message-authentication code" (2005).
        let mut bytes = [0; 64];
        bytes[32..48].copy_from_slice(&hex::decode("ec074c835580741701425b623235add6").unwrap());
        bytes[48..].copy_from_slice(&hex::decode("851fc40c3467ac0be05cc20404f3f700").unwrap());
        let nonce = hex::decode("fb447350c4e868c52ac3275cf9d4327e").unwrap();
        let message = hex::decode("f3f6").unwrap();
        let tag = MasterKey::from_bytes(&bytes).tag(&nonce.try_into().unwrap(), &message);
        assert_eq!(hex::encode(tag), "f4c633c3044fc145f84f335cb81953de");
    }

    #[test]
    fn derived_secrets_differ_by_purpose_and_key() {
        let other = MasterKey::from_bytes(&[7; 64]);
        assert_ne!(key().derive(b"a"), key().derive(b"b"));
        assert_ne!(key().derive(b"a"), other.derive(b"a"));
    }
}
