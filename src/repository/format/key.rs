//! Key files: the master key, sealed with a key that scrypt makes of a password. Several files are several passwords.

use super::FormatError;
use super::crypto::MasterKey;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use zeroize::{Zeroize as _, Zeroizing};

/// Bytes that a key file may have.
pub const MAX_BYTES: usize = 64 * 1024;
/// Memory that opening a key file may ask for. restic's own calibration stays below 64 MiB.
const MAX_SCRYPT_BYTES: u64 = 256 * 1024 * 1024;
/// Work that opening a key file may ask for: N · r · p. restic's own is below 2^22.
const MAX_SCRYPT_WORK: u64 = 1 << 26;
const SALT_BYTES: usize = 64;

/// A key file's content. Nothing in it is secret without the password.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct KeyFile {
    /// When it was made.
    pub created: Timestamp,
    /// Who made it.
    #[serde(default)]
    pub username: String,
    /// On which machine.
    #[serde(default)]
    pub hostname: String,
    kdf: String,
    #[serde(rename = "N")]
    n: u64,
    r: u32,
    p: u32,
    salt: String,
    data: String,
    /// What the password is for, such as `recovery`. Belay's own; restic passes over it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
}

/// How much work a password costs. Memory: 128 · 2^`log_n` · r bytes.
#[derive(Clone, Copy, Debug)]
pub struct ScryptCost {
    /// log2 of N.
    pub log_n: u8,
    /// Block size.
    pub r: u32,
    /// Parallelization; here simply repetition.
    pub p: u32,
}

impl ScryptCost {
    /// For a random key of 160 bits, which needs no stretching: 1 MiB and a few milliseconds, so that a repository with a
    /// recovery key opens as fast as one without.
    pub const RANDOM_KEY: Self = Self { log_n: 10, r: 8, p: 1 };
}

impl Default for ScryptCost {
    /// For passwords of people: 32 MiB and about a fifth of a second, where restic's calibration ends up, too.
    fn default() -> Self {
        Self { log_n: 15, r: 8, p: 2 }
    }
}

#[derive(Serialize, Deserialize)]
struct StoredMasterKey {
    mac: StoredMacKey,
    encrypt: String,
}

#[derive(Serialize, Deserialize)]
struct StoredMacKey {
    k: String,
    r: String,
}

impl Drop for StoredMasterKey {
    fn drop(&mut self) {
        self.mac.k.zeroize();
        self.mac.r.zeroize();
        self.encrypt.zeroize();
    }
}

impl KeyFile {
    /// Seal `master` with `password`.
    pub fn seal(
        master: &MasterKey,
        password: &[u8],
        cost: ScryptCost,
        owner: (String, String),
        label: Option<String>,
        now: Timestamp,
    ) -> Result<Self, FormatError> {
        let mut salt = [0; SALT_BYTES];
        getrandom::fill(&mut salt).map_err(FormatError::invalid)?;
        let password_key = stretch(password, &salt, cost)?;
        let stored = StoredMasterKey {
            mac: StoredMacKey { k: BASE64.encode(master.mac_k), r: BASE64.encode(master.mac_r) },
            encrypt: BASE64.encode(master.encrypt),
        };
        let json = Zeroizing::new(serde_json::to_vec(&stored).map_err(FormatError::invalid)?);
        let data = password_key.seal(&json).map_err(FormatError::invalid)?;
        let (username, hostname) = owner;
        Ok(Self {
            created: now,
            username,
            hostname,
            kdf: "scrypt".into(),
            n: 1 << cost.log_n,
            r: cost.r,
            p: cost.p,
            salt: BASE64.encode(salt),
            data: BASE64.encode(data),
            label,
        })
    }

    /// What a password costs with this file; an error where that is more than anybody needs, so that a hostile file
    /// is refused before it is paid for.
    pub fn cost(&self) -> Result<ScryptCost, FormatError> {
        if self.kdf != "scrypt" {
            return Err(FormatError::invalid(format!("unknown key derivation '{}'", self.kdf)));
        }
        if !self.n.is_power_of_two() || self.n < 2 {
            return Err(FormatError::invalid(format!(
                "scrypt's N is {}, which is no power of two",
                self.n
            )));
        }
        let (r, p) = (u64::from(self.r), u64::from(self.p));
        if r == 0 || p == 0 {
            return Err(FormatError::invalid(format!("scrypt's r is {r} and p is {p}")));
        }
        // A block for each of the N steps, and one for each of the p repetitions.
        let memory = self.n.saturating_add(p).saturating_mul(r).saturating_mul(128);
        let work = self.n.saturating_mul(r).saturating_mul(p);
        for (length, limit) in [(memory, MAX_SCRYPT_BYTES), (work, MAX_SCRYPT_WORK)] {
            if length > limit {
                return Err(FormatError::TooLong { length, limit });
            }
        }
        Ok(ScryptCost { log_n: self.n.ilog2() as u8, r: self.r, p: self.p })
    }

    /// The master key, or `None` when the password is not this file's.
    pub fn open(&self, password: &[u8]) -> Result<Option<MasterKey>, FormatError> {
        let cost = self.cost()?;
        let decode = |text: &str| BASE64.decode(text).map_err(FormatError::invalid);
        let (salt, data) = (decode(&self.salt)?, decode(&self.data)?);
        let password_key = stretch(password, &salt, cost)?;
        let json = match password_key.open(&data) {
            Ok(json) => Zeroizing::new(json),
            Err(FormatError::Forged) => return Ok(None),
            Err(error) => return Err(error),
        };
        let stored: StoredMasterKey =
            serde_json::from_slice(&json).map_err(FormatError::invalid)?;
        let mut bytes = Zeroizing::new(Vec::with_capacity(64));
        for part in [&stored.encrypt, &stored.mac.k, &stored.mac.r] {
            bytes.extend(Zeroizing::new(decode(part)?).iter());
        }
        let bytes: &[u8; 64] = bytes
            .as_slice()
            .try_into()
            .map_err(|_| FormatError::invalid("the master key has a wrong length"))?;
        Ok(Some(MasterKey::from_bytes(bytes)))
    }
}

fn stretch(password: &[u8], salt: &[u8], cost: ScryptCost) -> Result<MasterKey, FormatError> {
    let parameters =
        scrypt::Params::new(cost.log_n, cost.r, cost.p).map_err(FormatError::invalid)?;
    let mut bytes = Zeroizing::new([0; 64]);
    scrypt::scrypt(password, salt, &parameters, bytes.as_mut_slice())
        .map_err(FormatError::invalid)?;
    Ok(MasterKey::from_bytes(&bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHEAP: ScryptCost = ScryptCost { log_n: 4, r: 8, p: 1 };

    fn sealed() -> KeyFile {
        let master = MasterKey::from_bytes(&std::array::from_fn(|index| index as u8));
        let owner = ("ann".into(), "host".into());
        KeyFile::seal(&master, b"right", CHEAP, owner, None, Timestamp::UNIX_EPOCH).unwrap()
    }

    #[test]
    fn only_the_right_password_opens_a_key() {
        let file = sealed();
        let master = file.open(b"right").unwrap().unwrap();
        assert_eq!(master.encrypt[31], 31);
        assert_eq!((master.mac_k[0], master.mac_r[15]), (32, 63));
        assert!(file.open(b"wrong").unwrap().is_none());
        assert!(!serde_json::to_string(&file).unwrap().contains("label"));
    }

    #[test]
    fn absurd_costs_are_refused_before_they_are_paid() {
        let json = serde_json::to_value(sealed()).unwrap();
        for (member, value) in
            [("N", 1_u64 << 40), ("N", 3), ("N", 0), ("r", 1 << 30), ("p", 1 << 30), ("r", 0)]
        {
            let mut json = json.clone();
            json[member] = value.into();
            let file: KeyFile = serde_json::from_value(json).unwrap();
            assert!(file.open(b"right").is_err(), "{member} = {value}");
        }
    }

    #[test]
    fn many_repetitions_of_little_work_are_refused_too() {
        // Work within the limit, and 4 GiB for the blocks of all repetitions.
        let mut json = serde_json::to_value(sealed()).unwrap();
        (json["N"], json["r"], json["p"]) = (2.into(), 1.into(), (1 << 25).into());
        let file: KeyFile = serde_json::from_value(json).unwrap();
        let expected = FormatError::TooLong { length: (2 + (1 << 25)) * 128, limit: 1 << 28 };
        assert_eq!(file.cost().unwrap_err(), expected);
        assert_eq!(file.open(b"right").unwrap_err(), expected);
    }
}
