//! The made-up shop: orders and invoices in files, releases that move them to another form, and a server for each instance that says
//! whether every invoice has its order.
//!
//! What always holds: the servers listen on this machine's own address only, and end when this is dropped.

use crate::ops::OpsError;
use crate::ops::demo::failed;
use std::fs;
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// Orders of each instance at the beginning.
pub(super) const ORDERS: usize = 24;
const CUSTOMERS: [&str; 4] = ["Ada", "Grace", "Edsger", "Barbara"];
/// How long whoever asks may take.
const PATIENCE: Duration = Duration::from_secs(2);
const MOST_REQUEST_BYTES: u64 = 8 * 1024;

/// Stops and starts an instance, and puts a release in place, which moves the data to its own form when those are of an older one.
const SCRIPT: &str = r#"#!/bin/sh
set -eu
site=$(dirname "$0")
data=$site/$BELAY_INSTANCE

# 2: each order has its currency.
to_2() {
  for order in "$data"/orders/*.json; do
    grep -q currency "$order" && continue
    sed 's/}$/, "currency": "EUR"}/' "$order" > "$data/moving"
    mv "$data/moving" "$order"
  done
}

# 3: orders are kept by customer. Of one without a name nobody has thought.
to_3() {
  for order in "$data"/orders/*.json; do
    customer=$(sed -n 's/.*"customer": "\([A-Za-z]*\)".*/\1/p' "$order")
    if [ -n "$customer" ]; then
      mkdir -p "$data/customers/$customer"
      cp "$order" "$data/customers/$customer/"
    fi
    rm "$order"
  done
}

case ${1-install} in
  stop) : > "$data.stopped" ;;
  start) rm -f "$data.stopped" ;;
  install)
    : > "$data.stopped"
    form=$(cat "$data/form")
    while [ "$form" -lt "${BELAY_VERSION%%.*}" ]; do
      form=$((form + 1))
      "to_$form"
      echo "$form" > "$data/form"
    done
    echo "$BELAY_VERSION" > "$data.release"
    rm -f "$data.stopped" ;;
esac
"#;

/// The instances of the shop, and their servers.
pub(super) struct Site {
    directory: PathBuf,
    servers: Vec<Server>,
}

/// A server of one instance.
struct Server {
    name: String,
    address: SocketAddr,
    is_over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Site {
    /// Make the instances, and start their servers.
    pub(super) fn build(root: &Path, names: &[&str], release: &str) -> Result<Self, OpsError> {
        let directory = root.join("shop");
        let mut site = Self { directory, servers: Vec::new() };
        for name in names {
            let data = site.data(name);
            site.fill(name, release).map_err(failed("write", &data))?;
            let server = Server::start(name, &data).map_err(failed("serve", &data))?;
            site.servers.push(server);
        }
        let script = site.script();
        let written = fs::write(&script, SCRIPT)
            .and_then(|()| fs::set_permissions(&script, fs::Permissions::from_mode(0o755)));
        written.map_err(failed("write", &script))?;
        Ok(site)
    }

    fn fill(&self, name: &str, release: &str) -> io::Result<()> {
        let data = self.data(name);
        fs::create_dir_all(data.join("orders"))?;
        fs::create_dir_all(data.join("invoices"))?;
        fs::write(data.join("form"), "1\n")?;
        fs::write(self.release_file(name), format!("{release}\n"))?;
        for number in 1..=ORDERS {
            let customer = CUSTOMERS[number % CUSTOMERS.len()];
            self.order(name, number, &format!("\"customer\": \"{customer}\", "))?;
        }
        Ok(())
    }

    fn order(&self, name: &str, number: usize, customer: &str) -> io::Result<()> {
        let total = number * 37 % 400 + 5;
        let order = format!("{{\"number\": {number}, {customer}\"total\": {total}}}\n");
        fs::write(self.data(name).join(format!("orders/{number:04}.json")), order)?;
        let invoice = format!("Invoice for order {number}: {total}\n");
        fs::write(self.data(name).join(format!("invoices/{number:04}.txt")), invoice)
    }

    /// Somebody orders who gives no name.
    pub(super) fn order_of_a_guest(&self, name: &str) -> Result<(), OpsError> {
        let ordered = self.order(name, ORDERS + 1, "");
        ordered.map_err(failed("write", &self.data(name)))
    }

    /// The directory of an instance's data.
    pub(super) fn data(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// The program that puts releases in place.
    pub(super) fn script(&self) -> PathBuf {
        self.directory.join("release.sh")
    }

    /// The file that says which release of an instance is in place.
    pub(super) fn release_file(&self, name: &str) -> PathBuf {
        self.data(name).with_extension("release")
    }

    /// Which release that is.
    pub(super) fn release(&self, name: &str) -> Result<String, OpsError> {
        let file = self.release_file(name);
        let text = fs::read_to_string(&file).map_err(failed("read", &file))?;
        Ok(text.trim().to_owned())
    }

    /// Where an instance is opened.
    pub(super) fn url(&self, name: &str) -> String {
        let server = self.servers.iter().find(|server| server.name == name);
        server.map(|server| format!("http://{}", server.address)).unwrap_or_default()
    }
}

impl Server {
    fn start(name: &str, data: &Path) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let address = listener.local_addr()?;
        let is_over = Arc::new(AtomicBool::new(false));
        let (ends, data) = (Arc::clone(&is_over), data.to_owned());
        let thread = std::thread::Builder::new().name("shop".into()).spawn(move || {
            for stream in listener.incoming() {
                if ends.load(Ordering::SeqCst) {
                    return;
                }
                // Whoever goes away before it has its answer does not want it.
                let _ = stream.and_then(|stream| answer(stream, &data));
            }
        })?;
        Ok(Self { name: name.to_owned(), address, is_over, thread: Some(thread) })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::SeqCst);
        // It looks whether it is over when somebody comes.
        let came = TcpStream::connect_timeout(&self.address, PATIENCE);
        if let (Some(thread), Ok(_)) = (self.thread.take(), came) {
            // What it did is not asked any more.
            let _ = thread.join();
        }
    }
}

fn answer(mut stream: TcpStream, data: &Path) -> io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut request = BufReader::new(&stream).take(MOST_REQUEST_BYTES);
    let (mut first, mut line) = (String::new(), String::new());
    request.read_line(&mut first)?;
    while request.read_line(&mut line)? > 2 {
        line.clear();
    }
    // One that is stopped does not answer.
    if data.with_extension("stopped").exists() {
        return Ok(());
    }
    let (status, said) = match first.split(' ').nth(1) {
        Some("/health") => match health(data) {
            Ok(said) => ("200 OK", said),
            Err(why) => ("500 Internal Server Error", why),
        },
        _ => ("404 Not Found", "there is only /health".to_owned()),
    };
    let length = said.len() + 1;
    write!(
        stream,
        "HTTP/1.1 {status}\r\nContent-Type: text/plain\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{said}\n"
    )
}

/// Whether the release in place can read the data, and every invoice has its order.
fn health(data: &Path) -> Result<String, String> {
    let unread = |error: io::Error| format!("the data cannot be read: {error}");
    let read = |path: &Path| fs::read_to_string(path).map_err(unread);
    let release = read(&data.with_extension("release"))?;
    let form = read(&data.join("form"))?;
    if release.split('.').next() != Some(form.trim()) {
        return Err(format!("{} cannot read data of the form {}", release.trim(), form.trim()));
    }
    let mut orders = Vec::new();
    names(&data.join("orders"), &mut orders).map_err(unread)?;
    if let Ok(customers) = fs::read_dir(data.join("customers")) {
        for customer in customers {
            names(&customer.map_err(unread)?.path(), &mut orders).map_err(unread)?;
        }
    }
    let mut invoices = Vec::new();
    names(&data.join("invoices"), &mut invoices).map_err(unread)?;
    invoices.sort();
    match invoices.iter().find(|invoice| !orders.contains(invoice)) {
        Some(lost) => Err(format!("invoice {lost}: there is no such order")),
        None => Ok(format!("{} orders, each with its invoice", orders.len())),
    }
}

/// The names of a directory's files, without what follows the point.
fn names(directory: &Path, found: &mut Vec<String>) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        found.extend(path.file_stem().map(|stem| stem.to_string_lossy().into_owned()));
    }
    Ok(())
}
