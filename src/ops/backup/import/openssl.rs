//! What `openssl enc -aes-256-cbc -pbkdf2 -iter 100000` writes: `Salted__`, eight bytes of salt, and blocks.
//!
//! Nothing in it proves that the password was right or that no byte was changed: that what comes out begins as it must tells
//! the first, and the sums of what it holds the second.

use super::error::ImportError;
use aes::Aes256;
use cbc::cipher::{Block, BlockModeDecrypt as _, KeyIvInit as _};
use sha2::Sha256;
use std::io::{self, Read};
use zeroize::Zeroizing;

/// What such a file begins with.
pub(super) const MAGIC: &[u8; 8] = b"Salted__";

const ROUNDS: u32 = 100_000;
const KEY_BYTES: usize = 32;
const BLOCK_BYTES: usize = 16;
/// Bytes that are decrypted at once.
const PIECE_BYTES: usize = 64 * 1024;

/// Gives the content of an encrypted file.
pub(super) struct Decrypted<R> {
    input: R,
    cipher: cbc::Decryptor<Aes256>,
    /// What the content has to begin with.
    begins: &'static [u8],
    is_first: bool,
    is_ended: bool,
    /// The last block that was read, which may be the file's: it says how much of itself is none of the content.
    held: Vec<u8>,
    /// What was decrypted, and from where on it was not taken yet.
    plain: Zeroizing<Vec<u8>>,
    taken: usize,
}

impl<R: Read> Decrypted<R> {
    /// The content of `input`, after its [`MAGIC`]. Takes a moment, on purpose.
    pub(super) fn new(
        mut input: R,
        password: &[u8],
        begins: &'static [u8],
    ) -> Result<Self, ImportError> {
        let mut salt = [0; 8];
        input.read_exact(&mut salt).map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => ImportError::Cut("it ends in its first bytes"),
            _ => ImportError::Read(error),
        })?;
        let mut derived = Zeroizing::new([0; KEY_BYTES + BLOCK_BYTES]);
        pbkdf2::pbkdf2_hmac::<Sha256>(password, &salt, ROUNDS, derived.as_mut());
        let (key, start) = derived.split_at(KEY_BYTES);
        let cipher = cbc::Decryptor::<Aes256>::new_from_slices(key, start)
            .expect("the key has 32 bytes and the first block 16");
        let (held, plain) = (Vec::new(), Zeroizing::new(Vec::new()));
        let (is_first, is_ended) = (true, false);
        Ok(Self { input, cipher, begins, is_first, is_ended, held, plain, taken: 0 })
    }

    /// Decrypt the next piece. There is one: the end was not seen yet.
    fn advance(&mut self) -> Result<(), ImportError> {
        let mut piece = std::mem::take(&mut self.held);
        let before = piece.len();
        let wanted = (PIECE_BYTES - before) as u64;
        (&mut self.input).take(wanted).read_to_end(&mut piece).map_err(ImportError::Read)?;
        self.is_ended = piece.len() < PIECE_BYTES;
        if self.is_ended && (piece.is_empty() || !piece.len().is_multiple_of(BLOCK_BYTES)) {
            return Err(ImportError::Cut("it ends in the middle of a block of the cipher"));
        }
        if !self.is_ended {
            self.held = piece.split_off(PIECE_BYTES - BLOCK_BYTES);
        }
        let (blocks, _) = Block::<Aes256>::slice_as_chunks_mut(&mut piece);
        self.cipher.decrypt_blocks(blocks);
        if std::mem::take(&mut self.is_first) && !piece.starts_with(self.begins) {
            return Err(ImportError::WrongPassword);
        }
        if self.is_ended {
            let padding = usize::from(piece.last().copied().unwrap_or(0));
            let is_padding = (1..=BLOCK_BYTES).contains(&padding)
                && piece.iter().rev().take(padding).all(|byte| usize::from(*byte) == padding);
            if !is_padding {
                return Err(ImportError::Cut("its last block is not the last that was written"));
            }
            piece.truncate(piece.len() - padding);
        }
        (self.plain, self.taken) = (Zeroizing::new(piece), 0);
        Ok(())
    }
}

impl<R: Read> Read for Decrypted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.taken == self.plain.len() && !self.is_ended {
            self.advance().map_err(io::Error::other)?;
        }
        let length = buffer.len().min(self.plain.len() - self.taken);
        buffer[..length].copy_from_slice(&self.plain[self.taken..self.taken + length]);
        self.taken += length;
        Ok(length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cbc::cipher::{BlockModeEncrypt as _, block_padding::Pkcs7};

    const BEGINS: &[u8] = b"\x1f\x8b\x08";

    /// As openssl writes it, without the magic.
    fn encrypted(plain: &[u8]) -> Vec<u8> {
        let salt = *b"saltsalt";
        let mut derived = [0; KEY_BYTES + BLOCK_BYTES];
        pbkdf2::pbkdf2_hmac::<Sha256>(b"right", &salt, ROUNDS, &mut derived);
        let (key, start) = derived.split_at(KEY_BYTES);
        let cipher = cbc::Encryptor::<Aes256>::new_from_slices(key, start).unwrap();
        [&salt[..], &cipher.encrypt_padded_vec::<Pkcs7>(plain)].concat()
    }

    fn decrypted(bytes: &[u8], password: &[u8]) -> Result<Vec<u8>, ImportError> {
        let mut content = Vec::new();
        let mut reader = Decrypted::new(bytes, password, BEGINS)?;
        match reader.read_to_end(&mut content) {
            Ok(_) => Ok(content),
            Err(error) => Err(error.downcast().unwrap()),
        }
    }

    #[test]
    fn every_length_comes_back_and_every_cut_is_told() {
        for length in [3, 15, 16, 17, PIECE_BYTES - 1, PIECE_BYTES, PIECE_BYTES + 33] {
            let plain: Vec<u8> =
                BEGINS.iter().copied().chain((0..=250).cycle()).take(length).collect();
            let sealed = encrypted(&plain);
            assert_eq!(decrypted(&sealed, b"right").unwrap(), plain, "{length}");
            let wrong = decrypted(&sealed, b"wrong").unwrap_err();
            assert!(matches!(wrong, ImportError::WrongPassword), "{length}: {wrong}");
        }
        let plain: Vec<u8> = BEGINS.iter().copied().chain((0..=250).cycle()).take(100).collect();
        let sealed = encrypted(&plain);
        for end in 0..sealed.len() {
            let cut = decrypted(&sealed[..end], b"right").unwrap_err();
            assert!(matches!(cut, ImportError::Cut(_)), "{end}: {cut}");
        }
    }
}
