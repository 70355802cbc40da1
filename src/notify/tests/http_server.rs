//! A web server that keeps what it was asked, and answers what it was told to.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{self, Receiver};
use std::thread::JoinHandle;

/// A request as it came.
pub struct Request {
    /// Such as `POST /x HTTP/1.1`.
    pub line: String,
    headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Request {
    /// A header's value; its name in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(known, _)| known == name)?;
        Some(&found.1)
    }

    pub fn text(&self) -> &str {
        str::from_utf8(&self.body).unwrap()
    }
}

/// What to do with a request.
pub enum Answer {
    /// Send these bytes and close.
    Bytes(Vec<u8>),
    /// Keep the connection and say nothing until the other side gives up.
    Hang,
    /// A letter each time the other side could lose patience, until it does.
    Drip,
}

impl Answer {
    /// A status line with headers, and nothing after it.
    pub fn status(status: &str, headers: &str) -> Self {
        let headers = format!("{headers}Content-Length: 0\r\nConnection: close\r\n");
        Self::Bytes(format!("HTTP/1.1 {status}\r\n{headers}\r\n").into_bytes())
    }

    pub fn ok() -> Self {
        Self::status("200 OK", "")
    }
}

pub struct Server {
    pub address: SocketAddr,
    requests: Receiver<Request>,
    thread: JoinHandle<()>,
}

impl Server {
    /// Takes one connection after the other, one for each answer.
    pub fn start(answers: Vec<Answer>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        Self::on(listener, answers)
    }

    /// On a port that is taken already, so that an answer can name it.
    pub fn on(listener: TcpListener, answers: Vec<Answer>) -> Self {
        let address = listener.local_addr().unwrap();
        let (sender, requests) = mpsc::channel();
        let thread = std::thread::spawn(move || {
            for answer in answers {
                let mut stream = listener.accept().unwrap().0;
                let Some(request) = read(&mut stream) else { continue };
                sender.send(request).unwrap();
                reply(stream, answer);
            }
        });
        Self { address, requests, thread }
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// All that was asked, once every answer was given.
    pub fn requests(self) -> Vec<Request> {
        self.thread.join().unwrap();
        self.requests.into_iter().collect()
    }

    /// What was asked so far, without waiting for what else could come.
    pub fn asked(&self) -> Vec<Request> {
        self.requests.try_iter().collect()
    }
}

fn reply(mut stream: TcpStream, answer: Answer) {
    // The other side may be gone, which is what some tests are about.
    match answer {
        Answer::Bytes(bytes) => drop(stream.write_all(&bytes)),
        Answer::Hang => drop(stream.read(&mut [0])),
        Answer::Drip => {
            stream.set_read_timeout(Some(std::time::Duration::from_millis(20))).unwrap();
            for byte in b"HTTP/1.1 200 ".iter().chain(std::iter::repeat(&b'x')) {
                // Closed by the other side: nothing more is read, and that at once.
                if stream.write_all(&[*byte]).is_err() || stream.read(&mut [0]).is_ok() {
                    break;
                }
            }
        }
    }
}

fn read(stream: &mut TcpStream) -> Option<Request> {
    let mut bytes = Vec::new();
    let end = loop {
        if let Some(at) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            break at;
        }
        let mut byte = [0];
        if stream.read(&mut byte).ok()? == 0 {
            return None;
        }
        bytes.push(byte[0]);
    };
    let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
    let mut lines = head.split("\r\n").map(str::to_owned);
    let line = lines.next().unwrap();
    let headers: Vec<(String, String)> = lines
        .map(|line| line.split_once(": ").map(|(a, b)| (a.to_lowercase(), b.to_owned())).unwrap())
        .collect();
    let length = headers.iter().find(|(name, _)| name == "content-length");
    let mut body = vec![0; length.map_or(0, |(_, length)| length.parse().unwrap())];
    stream.read_exact(&mut body).unwrap();
    Some(Request { line, headers, body })
}
