//! The file that is imported, and what unpacks it. What goes wrong in any layer is kept, so that it is told as what it is
//! whoever reads above that layer.

use super::error::ImportError;
use super::openssl::{self, Decrypted};
use crate::config::Secret;
use crate::model::event::Cancel;
use crate::model::id::Sha256;
use flate2::bufread::MultiGzDecoder;
use sha2::Digest as _;
use std::cell::RefCell;
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::Path;
use std::rc::Rc;

/// What a file that was packed by gzip begins with.
pub(super) const GZIP: &[u8] = &[0x1f, 0x8b, 0x08];
/// What a file that was packed by zstd begins with.
const ZSTD: &[u8] = &[0x28, 0xb5, 0x2f, 0xfd];
/// How much of what came before a packed file may refer to, as a power of two: memory.
const MOST_WINDOW: u32 = 27;
/// Bytes asked of the file at once.
const BUFFER_BYTES: usize = 128 * 1024;

/// How a file is packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Packing {
    Gzip,
    /// The same, encrypted.
    Encrypted,
    /// As `belay export` packs.
    Zstd,
}

/// The first failure of any layer.
#[derive(Clone, Default)]
pub(super) struct Fault(Rc<RefCell<Option<ImportError>>>);

impl Fault {
    /// Keep a failure, and what to give to whoever reads above.
    pub(super) fn keep(&self, error: ImportError) -> io::Error {
        let told = error.to_string();
        self.0.borrow_mut().get_or_insert(error);
        io::Error::other(told)
    }

    /// The failure, where there is one: it explains whatever went wrong above.
    pub(super) fn take(&self) -> Option<ImportError> {
        self.0.borrow_mut().take()
    }

    /// Watch over a layer whose own errors are `told` so.
    fn watch<R>(&self, inner: R, told: fn(io::Error) -> ImportError) -> Watched<R> {
        Watched { inner, fault: self.clone(), told }
    }

    /// Unpack what is packed in what is read.
    pub(super) fn unpacked<R: Read>(&self, packed: R) -> impl Read + use<R> {
        let input = BufReader::with_capacity(BUFFER_BYTES, packed);
        self.watch(MultiGzDecoder::new(input), |error| gzip_fault(&error))
    }
}

fn gzip_fault(error: &io::Error) -> ImportError {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => ImportError::Cut("what gzip packed has no end"),
        _ => ImportError::Damaged(error.to_string()),
    }
}

fn of_zstd(error: &io::Error) -> ImportError {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => ImportError::Cut("what zstd packed has no end"),
        _ => ImportError::Damaged(error.to_string()),
    }
}

fn of_decryption(error: io::Error) -> ImportError {
    error.downcast().unwrap_or_else(ImportError::Read)
}

struct Watched<R> {
    inner: R,
    fault: Fault,
    told: fn(io::Error) -> ImportError,
}

impl<R: Read> Read for Watched<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.inner.read(buffer).map_err(|error| match error.kind() {
            io::ErrorKind::Interrupted => error,
            _ => self.fault.keep((self.told)(error)),
        })
    }
}

/// The file itself.
struct Bytes {
    file: File,
    sum: Rc<RefCell<sha2::Sha256>>,
    cancel: Cancel,
    fault: Fault,
    progress: Box<dyn FnMut(u64)>,
    read: u64,
}

impl Read for Bytes {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.cancel.check().map_err(|cancelled| self.fault.keep(cancelled.into()))?;
        let length = self.file.read(buffer)?;
        self.sum.borrow_mut().update(&buffer[..length]);
        self.read += length as u64;
        (self.progress)(self.read);
        Ok(length)
    }
}

/// A file that was opened, from its beginning.
pub(super) struct Input {
    pub(super) content: Box<dyn Read>,
    pub(super) fault: Fault,
    sum: Rc<RefCell<sha2::Sha256>>,
}

impl Input {
    /// Open a file that is packed so. `progress` is told how many bytes of it were read.
    pub(super) fn open(
        path: &Path,
        packing: Packing,
        password: Option<&Secret>,
        cancel: &Cancel,
        progress: impl FnMut(u64) + 'static,
    ) -> Result<Self, ImportError> {
        let file = File::open(path).map_err(ImportError::Read)?;
        let (sum, fault) = (Rc::<RefCell<sha2::Sha256>>::default(), Fault::default());
        let mut bytes = Bytes {
            file,
            sum: Rc::clone(&sum),
            cancel: cancel.clone(),
            fault: fault.clone(),
            progress: Box::new(progress),
            read: 0,
        };
        let content: Box<dyn Read> = match packing {
            Packing::Gzip => Box::new(fault.unpacked(fault.watch(bytes, ImportError::Read))),
            Packing::Zstd => {
                let input = fault.watch(bytes, ImportError::Read);
                let mut plain =
                    zstd::stream::read::Decoder::new(input).map_err(ImportError::Read)?;
                plain.window_log_max(MOST_WINDOW).map_err(ImportError::Read)?;
                Box::new(fault.watch(plain, |error| of_zstd(&error)))
            }
            Packing::Encrypted => {
                let mut magic = [0; openssl::MAGIC.len()];
                bytes.read_exact(&mut magic).map_err(ImportError::Read)?;
                let password = password.map_or("", Secret::expose).as_bytes();
                let input = BufReader::with_capacity(BUFFER_BYTES, bytes);
                let plain = Decrypted::new(input, password, GZIP)?;
                Box::new(fault.unpacked(fault.watch(plain, of_decryption)))
            }
        };
        Ok(Self { content, fault, sum })
    }

    /// The sum of the file, all of which was read.
    pub(super) fn sum(&self) -> Sha256 {
        Sha256(self.sum.borrow().clone().finalize().into())
    }
}

/// How a file is packed, by its first bytes.
pub(super) fn packing(path: &Path) -> Result<Packing, ImportError> {
    let file = File::open(path).map_err(ImportError::Read)?;
    // It is read twice, and a pipe has its bytes only once.
    if !file.metadata().map_err(ImportError::Read)?.is_file() {
        return Err(ImportError::NotAnArchive("it is no regular file"));
    }
    let mut beginning = Vec::new();
    let length = openssl::MAGIC.len() as u64;
    file.take(length).read_to_end(&mut beginning).map_err(ImportError::Read)?;
    if beginning.is_empty() {
        return Err(ImportError::NotAnArchive("it is empty"));
    }
    if beginning.starts_with(openssl::MAGIC) {
        return Ok(Packing::Encrypted);
    }
    if beginning.starts_with(GZIP) {
        return Ok(Packing::Gzip);
    }
    if beginning.starts_with(ZSTD) {
        return Ok(Packing::Zstd);
    }
    Err(ImportError::NotAnArchive("it begins with other bytes than any of those"))
}
