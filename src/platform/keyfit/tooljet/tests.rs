//! The cipher against the vectors of `tests/fixtures/keyfit.json`, and every way in which a key does not fit.

use super::*;
use crate::model::manifest::KeyFit;

/// Made with another implementation: see the note in the file.
const VECTORS: &str = include_str!("../../../../tests/fixtures/keyfit.json");
const MASTER: &str = "0101010101010101010101010101010101010101010101010101010101010101";
const OTHER: &str = "0101010101010101010101010101010101010101010101010101010101010102";
const ORGANIZATION: &str = "47eaa099-2cb6-416d-86dc-283cf0480ff9";

fn master(text: &str) -> MasterKey {
    MasterKey::parse(text).unwrap()
}

/// The ciphertext that the vectors have for a table.
fn vector(table: &str) -> String {
    let json: Value = serde_json::from_str(VECTORS).unwrap();
    let vectors = json["tooljet"]["vectors"].as_array().unwrap();
    let vector = vectors.iter().find(|vector| vector["table"] == table).unwrap();
    vector["ciphertext"].as_str().unwrap().to_owned()
}

fn field_of(table: &str) -> &'static Field {
    FIELDS.iter().find(|field| field.table == table).unwrap()
}

fn encrypt(table: &str, column: &str, plaintext: &str) -> String {
    let nonce = [7; NONCE_BYTES];
    let cipher = cipher(&master(MASTER), table, column);
    let sealed = cipher.encrypt(&Nonce::from(nonce), plaintext.as_bytes()).unwrap();
    STANDARD.encode([&nonce[..], &sealed].concat())
}

/// A proof that has seen one value of each field.
fn proof_of_all(key: &str) -> FitProof {
    let mut proof = FitProof::new(master(key));
    let configs = format!(r#"{{"clientId": "id", "clientSecret": "{}"}}"#, vector("ssoConfigs"));
    for field in FIELDS {
        let value = match field.key_column {
            KeyColumn::JsonMembers => configs.clone(),
            _ => vector(field.key_table),
        };
        proof.add(field, Some(b"row-1"), Some(value.as_bytes()));
    }
    proof.add_organization(b"11111111-2222-4333-8444-555555555555");
    proof.add_organization(ORGANIZATION.as_bytes());
    proof
}

#[test]
fn every_vector_is_decrypted_under_its_own_key_and_under_no_other() {
    let json: Value = serde_json::from_str(VECTORS).unwrap();
    let tooljet = &json["tooljet"];
    let (right, wrong) =
        (master(tooljet["lockbox_master_key_hex"].as_str().unwrap()), master(OTHER));
    let vectors = tooljet["vectors"].as_array().unwrap();
    assert_eq!(vectors.len(), 4);
    for vector in vectors {
        let text = |name: &str| vector[name].as_str().unwrap();
        let (table, column, ciphertext) =
            (text("table"), text("column"), text("ciphertext").as_bytes());
        let plaintext = decrypt(&right, table, column, ciphertext).unwrap();
        assert_eq!(*plaintext, text("plaintext").as_bytes());
        for (master, table, column) in
            [(&wrong, table, column), (&right, "other", column), (&right, table, "other")]
        {
            assert_eq!(decrypt(master, table, column, ciphertext), Err(DecryptError::DoesNotFit));
        }
    }
}

#[test]
fn what_was_cut_or_flipped_does_not_fit_or_is_no_ciphertext() {
    let ciphertext = vector("credentials");
    let tried = |bytes: &[u8]| decrypt(&master(MASTER), "credentials", "value", bytes);
    let sealed = STANDARD.decode(&ciphertext).unwrap();
    for length in 0..sealed.len() {
        let expected = if length < NONCE_BYTES + TAG_BYTES {
            DecryptError::NotCiphertext
        } else {
            DecryptError::DoesNotFit
        };
        assert_eq!(tried(STANDARD.encode(&sealed[..length]).as_bytes()), Err(expected), "{length}");
    }
    for bit in 0..sealed.len() * 8 {
        let mut flipped = sealed.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(tried(STANDARD.encode(flipped).as_bytes()), Err(DecryptError::DoesNotFit));
    }
    let line_break = format!("{ciphertext}\n");
    for no in ["", "hunter2", "%%%%", "pässwörd", &ciphertext[1..], &line_break] {
        assert_eq!(tried(no.as_bytes()), Err(DecryptError::NotCiphertext), "{no}");
    }
}

#[test]
fn all_kinds_of_ciphertext_are_proved() {
    let report = proof_of_all(MASTER).finish();
    assert_eq!((report.fit, report.verdict()), (4, KeyFit::Fit));
    assert_eq!(report.warnings(), [""; 0]);
    let report = proof_of_all(OTHER).finish();
    assert_eq!((report.tried(), report.unfit.count, report.verdict()), (4, 4, KeyFit::Unfit));
    let places: Vec<String> = report.unfit.places.iter().map(ToString::to_string).collect();
    let expected = [
        "credentials.value_ciphertext of row row-1",
        "sso_configs.configs.clientSecret of row row-1",
        "organization_tjdb_configurations.pg_password of row row-1",
        "org_environment_constant_values.value of row row-1",
    ];
    assert_eq!(places, expected);
}

#[test]
fn nothing_encrypted_is_unproven_and_plain_text_is_told() {
    let mut proof = FitProof::new(master(MASTER));
    for field in FIELDS {
        proof.add(field, None, None);
        proof.add(field, None, Some(b""));
    }
    proof.add(field_of("sso_configs"), None, Some(b"null"));
    proof.add(field_of("sso_configs"), None, Some(br#"{"clientSecret": "", "secret": null}"#));
    let report = proof.finish();
    assert_eq!(report, FitReport::default());
    assert_eq!(report.verdict(), KeyFit::Unproven);

    let mut proof = FitProof::new(master(MASTER));
    for field in FIELDS {
        proof.add(field, Some(b"9"), Some(b"plain text"));
    }
    let report = proof.finish();
    assert_eq!((report.not_ciphertext.count, report.verdict()), (4, KeyFit::Unproven));
}

#[test]
fn secrets_are_found_wherever_they_stand_in_the_json() {
    let secret = |name: &str| encrypt("ssoConfigs", name, "x");
    let json = serde_json::json!({
        "clientSecret": secret("clientSecret"),
        "nested": { "deep": [{ "Client_SECRET_2": secret("Client_SECRET_2") }] },
        "secretBox": { "inner_secret": secret("inner_secret"), "id": "plain" },
        "name": "plain",
    });
    let mut proof = FitProof::new(master(MASTER));
    proof.add(field_of("sso_configs"), None, Some(json.to_string().as_bytes()));
    let report = proof.finish();
    assert_eq!((report.fit, report.tried(), report.warnings()), (3, 3, vec![]));
    let mut proof = FitProof::new(master(OTHER));
    proof.add(field_of("sso_configs"), None, Some(json.to_string().as_bytes()));
    assert_eq!(proof.finish().unfit.count, 3);
}

#[test]
fn constants_wait_for_their_organization_and_are_not_judged_without_it() {
    let field = field_of("org_environment_constant_values");
    let constants = ["org-a", "org-b"].map(|id| encrypt(field.key_table, id, "value"));
    let report_with = |organizations: &[&str]| {
        let mut proof = FitProof::new(master(MASTER));
        for constant in &constants {
            proof.add(field, Some(b"1"), Some(constant.as_bytes()));
        }
        for id in organizations {
            proof.add_organization(id.as_bytes());
        }
        proof.finish()
    };
    assert_eq!(report_with(&["org-b", "org-c", "org-a"]).fit, 2);
    let unknown = report_with(&[]);
    assert_eq!((unknown.untried.count, unknown.verdict()), (2, KeyFit::Unproven));
    assert_eq!(report_with(&["org-c"]).unfit.count, 2);
    // An id that was not taken may be the one that is missing.
    let long = "x".repeat(MAX_ORGANIZATION_BYTES + 1);
    let partly = report_with(&["org-a", &long]);
    assert_eq!((partly.fit, partly.untried.count), (1, 1));
}

#[test]
fn no_more_ciphertext_waits_than_the_limit() {
    let field = field_of("org_environment_constant_values");
    let constant = encrypt(field.key_table, ORGANIZATION, &"x".repeat(1024 * 1024));
    let mut proof = FitProof::new(master(MASTER));
    proof.add_organization(ORGANIZATION.as_bytes());
    for _ in 0..65 {
        proof.add(field, None, Some(constant.as_bytes()));
    }
    let report = proof.finish();
    assert_eq!((report.fit, report.untried.count), (63, 2));
}

#[test]
fn a_master_key_is_64_hex_digits_and_no_example() {
    assert_eq!(master(&format!(" {MASTER}\n")).bytes(), [1; 32]);
    assert!(MasterKey::parse(&MASTER.replace('1', "F")).is_ok());
    let problem = |text: &str| MasterKey::parse(text).unwrap_err();
    assert_eq!(problem(" "), MasterKeyProblem::Empty);
    let examples = [
        // The sample in ToolJet's `.env.example`, and the default of its Helm chart.
        "0000000000000000000000000000000000000000000000000000000000000000",
        "0123456789ABCDEF",
        "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
        "1234567890123456789012345678901234567890123456789012345678901234",
        "FFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFF",
        "changeme",
        "replace_with_lockbox_master_key",
        "<your key>",
        "${LOCKBOX_MASTER_KEY}",
    ];
    for example in examples {
        let problem = problem(example);
        assert!(matches!(problem, MasterKeyProblem::Placeholder(_)), "{example}: {problem}");
    }
    assert_eq!(problem(&MASTER[2..]), MasterKeyProblem::WrongLength { characters: 62 });
    assert_eq!(problem("f00df00d5"), MasterKeyProblem::WrongLength { characters: 9 });
    assert_eq!(problem("päpäpä"), MasterKeyProblem::NotHex);
}

#[test]
fn neither_messages_nor_debug_output_hold_the_key() {
    assert_eq!(format!("{:?}", master(MASTER)), "MasterKey(…)");
    for text in ["changeme-8d1", "0123456789ABCDEF", "f00df00d5", "päpäpä-8d1"] {
        let problem = MasterKey::parse(text).unwrap_err();
        let told = format!("{problem} {problem:?} {}", problem.hint());
        assert!(!told.contains(text), "{told}");
    }
}
