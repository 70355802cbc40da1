//! ToolJet's field encryption: base64 of a nonce of 12 bytes, the ciphertext and a tag of 16, by AES-256-GCM under a
//! key that is derived for each table and column with HKDF-SHA384 from `LOCKBOX_MASTER_KEY`.
//!
//! Environment constants are encrypted under a key of their organization, which stands in another table. They wait
//! until all rows were seen, and then every organization's key is tried: what one of them decrypts was encrypted with it.

mod master;

pub use master::{MasterKey, MasterKeyProblem};

use super::{FitPlace, FitReport, Outcome};
use aes_gcm::aead::{Aead as _, KeyInit as _};
use aes_gcm::{Aes256Gcm, Nonce};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hkdf::Hkdf;
use serde_json::Value;
use sha2::Sha384;
use std::collections::{BTreeSet, HashMap};
use zeroize::Zeroizing;

const NONCE_BYTES: usize = 12;
const TAG_BYTES: usize = 16;
/// Ciphertext of constants that waits for the organizations; what exceeds it is not tried, and told.
const MAX_WAITING_BYTES: usize = 64 * 1024 * 1024;
/// Organizations that are known; with more of them, constants that no key decrypts are not taken for unfit.
const MAX_ORGANIZATIONS: usize = 100_000;
const MAX_ORGANIZATION_BYTES: usize = 64;

/// How the key of a field is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyColumn {
    /// By this name of a column.
    Named(&'static str),
    /// By the id of the organization that the row belongs to.
    Organization,
    /// The field holds JSON; members with `secret` in their name are encrypted, each under a key of that name.
    JsonMembers,
}

/// The schema of ToolJet's own tables.
pub const SCHEMA: &str = "public";

/// A column of `tooljet_production` (`PG_DB`), schema [`SCHEMA`], that holds ciphertext.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field {
    /// The table.
    pub table: &'static str,
    /// The column that tells the row.
    pub id_column: &'static str,
    /// The column with the ciphertext.
    pub value_column: &'static str,
    /// The table's name when the key is derived.
    pub key_table: &'static str,
    /// The column's name when the key is derived.
    pub key_column: KeyColumn,
}

const fn field(
    table: &'static str,
    value_column: &'static str,
    key_table: &'static str,
    key_column: KeyColumn,
) -> Field {
    Field { table, id_column: "id", value_column, key_table, key_column }
}

/// All fields with ciphertext. A version of ToolJet may lack some.
pub const FIELDS: &[Field] = &[
    field("credentials", "value_ciphertext", "credentials", KeyColumn::Named("value")),
    field(
        "org_environment_constant_values",
        "value",
        "org_environment_constant_values",
        KeyColumn::Organization,
    ),
    field("sso_configs", "configs", "ssoConfigs", KeyColumn::JsonMembers),
    field(
        "organization_tjdb_configurations",
        "pg_password",
        "organization_tjdb_configurations",
        KeyColumn::Named("pg_password"),
    ),
];

/// Where the passwords of the workspaces' roles stand, encrypted under keys of the same names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RolePasswords {
    /// The table.
    pub table: &'static str,
    /// The column with the role's name.
    pub role_column: &'static str,
    /// The column with the ciphertext.
    pub password_column: &'static str,
}

/// One row for each workspace.
pub const ROLE_PASSWORDS: RolePasswords = RolePasswords {
    table: "organization_tjdb_configurations",
    role_column: "pg_user",
    password_column: "pg_password",
};

/// The table and the column that the organizations' ids stand in.
pub const ORGANIZATION_IDS: (&str, &str) = ("organizations", "id");

/// What the proof reads, each a table with its columns: of each of [`FIELDS`], and then the organizations' ids.
pub fn tables() -> impl Iterator<Item = (&'static str, Vec<&'static str>)> {
    let (table, column) = ORGANIZATION_IDS;
    let fields =
        FIELDS.iter().map(|field| (field.table, vec![field.id_column, field.value_column]));
    fields.chain([(table, vec![column])])
}

/// Why a value was not decrypted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecryptError {
    /// It is not base64, or too short.
    #[error("the value is not shaped as ToolJet's ciphertext")]
    NotCiphertext,
    /// The key is another one, or the value was changed.
    #[error("the value cannot be decrypted with this LOCKBOX_MASTER_KEY")]
    DoesNotFit,
}

/// Decrypt a stored value.
pub fn decrypt(
    master: &MasterKey,
    table: &str,
    column: &str,
    ciphertext: &[u8],
) -> Result<Zeroizing<Vec<u8>>, DecryptError> {
    let sealed = sealed(ciphertext).ok_or(DecryptError::NotCiphertext)?;
    open(&cipher(master, table, column), &sealed).ok_or(DecryptError::DoesNotFit)
}

/// The bytes of what is shaped as ciphertext.
fn sealed(ciphertext: &[u8]) -> Option<Vec<u8>> {
    STANDARD.decode(ciphertext).ok().filter(|sealed| sealed.len() >= NONCE_BYTES + TAG_BYTES)
}

fn cipher(master: &MasterKey, table: &str, column: &str) -> Aes256Gcm {
    let info = [&[0xb4; 32][..], column.as_bytes(), b"_ciphertext"].concat();
    let mut key = Zeroizing::new([0; 32]);
    Hkdf::<Sha384>::new(Some(table.as_bytes()), master.bytes())
        .expand(&info, &mut *key)
        .expect("SHA-384 gives more than 32 bytes");
    Aes256Gcm::new((&*key).into())
}

fn open(cipher: &Aes256Gcm, sealed: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let (nonce, sealed) = sealed.split_first_chunk::<NONCE_BYTES>()?;
    cipher.decrypt(&Nonce::from(*nonce), sealed).ok().map(Zeroizing::new)
}

/// A constant that waits for the organizations.
struct Waiting {
    place: FitPlace,
    sealed: Vec<u8>,
}

/// Tries all ciphertext of an instance.
pub struct FitProof {
    master: MasterKey,
    report: FitReport,
    /// Ciphers by the name of the table and of the column. There are few of them.
    ciphers: HashMap<(&'static str, String), Aes256Gcm>,
    organizations: BTreeSet<String>,
    has_more_organizations: bool,
    waiting: Vec<Waiting>,
    waiting_bytes: usize,
}

impl FitProof {
    /// Nothing was tried yet.
    pub fn new(master: MasterKey) -> Self {
        Self {
            master,
            report: FitReport::default(),
            ciphers: HashMap::new(),
            organizations: BTreeSet::new(),
            has_more_organizations: false,
            waiting: Vec::new(),
            waiting_bytes: 0,
        }
    }

    /// An organization of the instance; in any order with the values.
    pub fn add_organization(&mut self, id: &[u8]) {
        match std::str::from_utf8(id) {
            Ok(id) if id.len() <= MAX_ORGANIZATION_BYTES => {
                if self.organizations.len() < MAX_ORGANIZATIONS {
                    self.organizations.insert(id.to_owned());
                } else {
                    self.has_more_organizations |= !self.organizations.contains(id);
                }
            }
            _ => self.has_more_organizations = true,
        }
    }

    /// A value of one of the [`FIELDS`], with the id of its row. NULL and empty values are passed over.
    pub fn add(&mut self, field: &Field, row: Option<&[u8]>, value: Option<&[u8]>) {
        let Some(value) = value.filter(|value| !value.is_empty()) else { return };
        let place = FitPlace::new(field.table, field.value_column, row);
        match field.key_column {
            KeyColumn::Named(column) => self.try_value(field.key_table, column, place, value),
            KeyColumn::Organization => self.wait(place, value),
            KeyColumn::JsonMembers => match serde_json::from_slice(value) {
                Ok(Value::Null) => {}
                Ok(json @ (Value::Object(_) | Value::Array(_))) => {
                    self.add_members(field, &place, &json);
                }
                _ => self.report.record(place, Outcome::NotCiphertext),
            },
        }
    }

    fn add_members(&mut self, field: &Field, place: &FitPlace, json: &Value) {
        match json {
            Value::Array(items) => {
                for item in items {
                    self.add_members(field, place, item);
                }
            }
            Value::Object(members) => {
                for (name, value) in members {
                    match value {
                        Value::String(text)
                            if !text.is_empty() && name.to_ascii_lowercase().contains("secret") =>
                        {
                            // The name comes from the database: it is shown as the row's id is.
                            let shown = crate::model::node::display_path(name.as_bytes());
                            let column = format!("{}.{shown}", field.value_column);
                            let place = FitPlace { column, ..place.clone() };
                            self.try_value(field.key_table, name, place, text.as_bytes());
                        }
                        _ => self.add_members(field, place, value),
                    }
                }
            }
            _ => {}
        }
    }

    fn try_value(&mut self, table: &'static str, column: &str, place: FitPlace, value: &[u8]) {
        /// Names of members come from the database, and may be as many as there are rows.
        const MAX_CIPHERS: usize = 256;
        if self.ciphers.len() >= MAX_CIPHERS {
            self.ciphers.clear();
        }
        let cipher = self
            .ciphers
            .entry((table, column.to_owned()))
            .or_insert_with(|| cipher(&self.master, table, column));
        let outcome = match sealed(value) {
            None => Outcome::NotCiphertext,
            Some(sealed) if open(cipher, &sealed).is_some() => Outcome::Fit,
            Some(_) => Outcome::Unfit,
        };
        self.report.record(place, outcome);
    }

    fn wait(&mut self, place: FitPlace, value: &[u8]) {
        /// What a place in the list takes besides the ciphertext.
        const PLACE_BYTES: usize = 256;
        let Some(sealed) = sealed(value) else {
            return self.report.record(place, Outcome::NotCiphertext);
        };
        let bytes = sealed.len() + PLACE_BYTES;
        if self.waiting_bytes + bytes > MAX_WAITING_BYTES {
            return self.report.record(place, Outcome::Untried);
        }
        self.waiting_bytes += bytes;
        self.waiting.push(Waiting { place, sealed });
    }

    /// Try what waited, and say what all trying showed.
    pub fn finish(mut self) -> FitReport {
        let table = FIELDS
            .iter()
            .find(|field| field.key_column == KeyColumn::Organization)
            .expect("constants are among the fields")
            .key_table;
        for organization in &self.organizations {
            if self.waiting.is_empty() {
                break;
            }
            let cipher = cipher(&self.master, table, organization);
            let before = self.waiting.len();
            self.waiting.retain(|constant| open(&cipher, &constant.sealed).is_none());
            self.report.fit += (before - self.waiting.len()) as u64;
        }
        // Without the organization that it belongs to, nothing is known of a constant.
        let all_known = !self.organizations.is_empty() && !self.has_more_organizations;
        let outcome = if all_known { Outcome::Unfit } else { Outcome::Untried };
        for constant in self.waiting {
            self.report.record(constant.place, outcome);
        }
        self.report
    }
}

#[cfg(test)]
mod tests;
