//! A mail server that keeps what was said to it.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::thread::JoinHandle;

pub struct Server {
    pub address: SocketAddr,
    thread: JoinHandle<String>,
}

impl Server {
    /// Takes one connection. `extensions` are what EHLO offers. The first reply whose command a line begins with is given,
    /// otherwise the usual one; a reply that is empty closes the connection.
    pub fn start(
        extensions: &'static [&'static str],
        replies: &'static [(&'static str, &'static str)],
    ) -> Self {
        let mut offers: Vec<String> =
            extensions.iter().map(|one| format!("250-{one}\r\n")).collect();
        offers.push("250 HELP\r\n".to_owned());
        let offers = offers.concat();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let thread = std::thread::spawn(move || {
            let stream = listener.accept().unwrap().0;
            let mut reader = BufReader::new(stream.try_clone().unwrap());
            let mut writer = stream;
            let mut said = String::new();
            let mut in_data = false;
            let find = |line: &str| replies.iter().find(|(command, _)| line.starts_with(command));
            let mut line = "GREETING".to_owned();
            loop {
                let reply = match find(&line) {
                    _ if in_data => String::new(),
                    Some((_, reply)) => format!("{reply}\r\n"),
                    None if line == "GREETING" => "220 here\r\n".to_owned(),
                    None if line.starts_with("EHLO") => offers.clone(),
                    None if line.starts_with("DATA") => "354 go on\r\n".to_owned(),
                    None if line.starts_with("QUIT") => "221 bye\r\n".to_owned(),
                    None if line.starts_with("AUTH") => "235 welcome\r\n".to_owned(),
                    None => "250 fine\r\n".to_owned(),
                };
                let is_end = reply == "\r\n" || writer.write_all(reply.as_bytes()).is_err();
                in_data = in_data || reply.starts_with("354");
                line.clear();
                if is_end || reader.read_line(&mut line).is_ok_and(|read| read == 0) {
                    return said;
                }
                said.push_str(&line);
                line.truncate(line.trim_end().len());
                if in_data && line == "." {
                    in_data = false;
                    "END".clone_into(&mut line);
                }
            }
        });
        Self { address, thread }
    }

    /// All that was said to it, once the other side is gone.
    pub fn said(self) -> String {
        self.thread.join().unwrap()
    }
}
