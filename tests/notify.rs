//! Deliveries by TLS, to servers with certificates of an authority that was made here: taken from those that are trusted,
//! and from nobody else. Which those are is read from the environment of the process that delivers, so each delivery has a
//! process of its own: this program again.
#![allow(clippy::unwrap_used)]

use belay::config::{Config, SecretSources};
use belay::model::id::DeliveryId;
use belay::model::notice::{Notice, NoticeKind};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::thread::JoinHandle;
use tempfile::TempDir;

/// Names the entry of `[[notify]]` to the process that delivers.
const ENTRY: &str = "BELAY_TEST_NOTIFY";

#[test]
#[ignore = "run by the other tests, each time in a process of its own"]
fn delivers_in_a_process_of_its_own() {
    let entry = std::env::var(ENTRY).unwrap();
    let repository = "[repository.main]\nurl = '/srv/x'\npassword = 'env:X'\n";
    let text = format!("{repository}[[notify]]\n{entry}");
    let config = Config::parse(&text, "f").unwrap_or_else(|error| panic!("{error}"));
    let notice = Notice {
        kind: NoticeKind::Failure,
        instance: None,
        job: None,
        at: "2026-11-21T22:00:00Z".parse().unwrap(),
        since: None,
        reminder: false,
        title: "It failed".to_owned(),
        body: String::new(),
        hint: None,
        host: "prod1".to_owned(),
        log: String::new(),
    };
    let sources = SecretSources::new(vec![], |_| Some("hunter2".into()));
    let result =
        belay::notify::deliver(&config.channels[0], DeliveryId([7; 16]), &notice, &sources);
    assert!(result.is_ok(), "{result:?}");
}

/// Delivers, trusting this authority alone; the answer says what went wrong.
fn deliver(entry: &str, authority: &Path) -> Result<(), String> {
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "delivers_in_a_process_of_its_own", "--ignored"])
        .env(ENTRY, entry)
        .env("SSL_CERT_FILE", authority)
        .env_remove("SSL_CERT_DIR")
        // A proxy of the environment is not used: nobody is there.
        .env("HTTPS_PROXY", "http://127.0.0.1:9")
        .env("ALL_PROXY", "http://127.0.0.1:9")
        .output()
        .unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(said.contains("1 test"), "{said}");
    if output.status.success() { Ok(()) } else { Err(said) }
}

/// Certificates in files: of an authority, and of `localhost` by it.
struct Certificates {
    directory: TempDir,
}

impl Certificates {
    fn make() -> Self {
        let this = Self { directory: tempfile::tempdir().unwrap() };
        std::fs::write(this.path("names"), "subjectAltName = DNS:localhost\n").unwrap();
        let key = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes";
        this.openssl(&format!(
            "req -x509 {key} -keyout ca.key -out ca.pem -days 2 -subj /CN=authority"
        ));
        this.openssl(&format!("req {key} -keyout key.pem -out request -subj /CN=localhost"));
        this.openssl("x509 -req -in request -CA ca.pem -CAkey ca.key -CAcreateserial -out certificate.pem -days 2 -extfile names");
        this
    }

    fn openssl(&self, arguments: &str) {
        let output = Command::new("openssl")
            .args(arguments.split(' '))
            .current_dir(self.directory.path())
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn authority(&self) -> PathBuf {
        self.path("ca.pem")
    }

    /// Takes one connection: `before` is said in the clear by both sides, in turns, and the rest by TLS. Answers with what
    /// came by TLS, or nothing where there was none.
    fn serve(
        &self,
        before: &'static [&'static str],
        replies: &'static [&'static str],
    ) -> (u16, JoinHandle<Vec<String>>) {
        let certificate = CertificateDer::from_pem_file(self.path("certificate.pem")).unwrap();
        let key = PrivateKeyDer::from_pem_file(self.path("key.pem")).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate], key)
            .unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let thread = std::thread::spawn(move || {
            let mut stream = listener.accept().unwrap().0;
            let mut buffer = [0; 16384];
            for (number, line) in before.iter().enumerate() {
                stream.write_all(line.as_bytes()).unwrap();
                if number + 1 < before.len() {
                    let _ = stream.read(&mut buffer).unwrap();
                }
            }
            let connection = ServerConnection::new(Arc::new(config)).unwrap();
            let mut stream = StreamOwned::new(connection, stream);
            let mut said = Vec::new();
            for reply in replies {
                // A client that does not trust us goes away, which is for the test to see.
                let Ok(read @ 1..) = stream.read(&mut buffer) else { break };
                said.push(String::from_utf8_lossy(&buffer[..read]).into_owned());
                stream.write_all(reply.as_bytes()).unwrap();
            }
            said
        });
        (port, thread)
    }
}

const OK: &[&str] = &["HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"];
const STARTTLS: &[&str] = &["220 here\r\n", "250-here\r\n250 STARTTLS\r\n", "220 go on\r\n"];
/// To EHLO, AUTH, MAIL, RCPT, DATA, and the message.
const SMTP: &[&str] = &[
    "250-here\r\n250-8BITMIME\r\n250 AUTH PLAIN\r\n",
    "235 welcome\r\n",
    "250 fine\r\n",
    "250 fine\r\n",
    "354 go on\r\n",
    "250 fine\r\n",
];

fn mail(port: u16) -> String {
    format!(
        "mail = {{ to = ['ops@example.com'], from = 'belay@example.com', server = 'localhost', port = {port}, user = 'belay', password = 'env:X' }}"
    )
}

#[test]
fn a_webhook_by_tls_reaches_whom_the_system_trusts() {
    let certificates = Certificates::make();
    let (port, server) = certificates.serve(&[], OK);
    let entry = format!("webhook = {{ url = 'https://localhost:{port}/hook' }}");
    deliver(&entry, &certificates.authority()).unwrap();
    let said = server.join().unwrap();
    assert!(said[0].starts_with("POST /hook HTTP/1.1\r\n"), "{said:?}");
}

#[test]
fn a_webhook_by_tls_tells_nobody_else() {
    let (certificates, others) = (Certificates::make(), Certificates::make());
    // Another authority's, and one for another name.
    for (host, authority) in
        [("localhost", others.authority()), ("127.0.0.1", certificates.authority())]
    {
        let (port, server) = certificates.serve(&[], OK);
        let entry = format!("webhook = {{ url = 'https://{host}:{port}/hunter2' }}");
        let said = deliver(&entry, &authority).unwrap_err();
        assert!(said.contains("invalid peer certificate"), "{said}");
        assert!(!said.contains("hunter2"), "{said}");
        assert_eq!(server.join().unwrap(), [""; 0]);
    }
}

#[test]
fn a_mail_by_starttls_goes_by_tls_alone() {
    let certificates = Certificates::make();
    let (port, server) = certificates.serve(STARTTLS, SMTP);
    deliver(&mail(port), &certificates.authority()).unwrap();
    let said = server.join().unwrap();
    assert!(said[0].starts_with("EHLO") && said[1].starts_with("AUTH PLAIN"), "{said:?}");
    assert!(said[5].contains("Subject: It failed\r\n"), "{said:?}");

    let (port, server) = certificates.serve(STARTTLS, SMTP);
    let error = deliver(&mail(port), &Certificates::make().authority()).unwrap_err();
    assert!(error.contains("invalid peer certificate"), "{error}");
    assert_eq!(server.join().unwrap(), [""; 0], "neither the password nor the mail was given");
}
