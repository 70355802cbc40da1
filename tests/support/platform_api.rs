//! A server that speaks the HTTP interfaces of Appsmith and `ToolJet` as far as Belay asks: it keeps every request, and fails as it
//! is told.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

pub const USER: &str = "belay@example.com";
pub const PASSWORD: &str = "pass word&for=tests";
pub const TOKEN: &str = "external-api-token-of-tests";

/// What becomes of the requests whose line begins with a text.
#[derive(Clone, Copy)]
pub enum Answer {
    /// A status of HTTP, and a body.
    Status(u16, &'static str),
    /// The status line, and less than the body that it tells of.
    CutOff,
    /// Nothing, for as long as the other side waits.
    Silence,
    /// A redirect to elsewhere.
    Redirect(&'static str),
}

#[derive(Default)]
struct State {
    requests: Vec<String>,
    told: Vec<(String, Answer)>,
    /// The git repository of Appsmith's app, and its branch.
    remote: String,
    branch: String,
    /// The names of the apps that are there.
    apps: Vec<String>,
}

/// The server; its threads end with the process.
pub struct PlatformApi {
    pub address: SocketAddr,
    state: Arc<Mutex<State>>,
}

impl PlatformApi {
    /// With apps of these names, of a git repository and branch.
    pub fn start(apps: &[&str], remote: &str, branch: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(Mutex::new(State {
            remote: remote.to_owned(),
            branch: branch.to_owned(),
            apps: apps.iter().map(|name| (*name).to_owned()).collect(),
            ..State::default()
        }));
        let shared = Arc::clone(&state);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let shared = Arc::clone(&shared);
                std::thread::spawn(move || serve(stream, &shared));
            }
        });
        Self { address, state }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Answer so to what begins with this text, such as `GET /api/v1/git`.
    pub fn tell(&self, line: &str, answer: Answer) {
        self.state.lock().unwrap().told.insert(0, (line.to_owned(), answer));
    }

    /// All requests so far, and forget them: the line, what says who asks, and the body.
    pub fn requests(&self) -> Vec<String> {
        std::mem::take(&mut self.state.lock().unwrap().requests)
    }
}

/// One request on each connection.
fn serve(stream: TcpStream, state: &Mutex<State>) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut line = String::new();
    if reader.read_line(&mut line).unwrap_or(0) == 0 {
        return;
    }
    let line = line.trim().trim_end_matches(" HTTP/1.1").to_owned();
    let (mut shown, mut length) = (Vec::new(), 0);
    loop {
        let mut header = String::new();
        reader.read_line(&mut header).unwrap();
        let Some((name, value)) = header.trim().split_once(": ") else { break };
        match name.to_lowercase().as_str() {
            "content-length" => length = value.parse().unwrap(),
            name @ ("authorization" | "content-type" | "cookie" | "x-requested-by") => {
                shown.push(format!("{name}: {value}"));
            }
            _ => {}
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    let body = String::from_utf8(body).unwrap();
    shown.sort();
    let answer = {
        let mut state = state.lock().unwrap();
        state.requests.push(format!("{line} [{}] {body}", shown.join("; ")).trim().to_owned());
        let told = state.told.iter().find(|(begin, _)| line.starts_with(begin.as_str()));
        told.map(|(_, answer)| *answer).ok_or_else(|| usual(&line, &shown, &body, &state))
    };
    reply(stream, answer);
}

fn reply(mut stream: TcpStream, answer: Result<Answer, (u16, String, String)>) {
    let bytes = match answer {
        Ok(Answer::Silence) => {
            // Until the other side has given up.
            let _ = stream.read(&mut [0]);
            return;
        }
        Ok(Answer::CutOff) => "HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n{\"resp".to_owned(),
        Ok(Answer::Redirect(target)) => response(302, &format!("Location: {target}\r\n"), ""),
        Ok(Answer::Status(status, body)) => response(status, "", body),
        Err((status, headers, body)) => response(status, &headers, &body),
    };
    let _ = stream.write_all(bytes.as_bytes());
}

fn response(status: u16, headers: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "HTTP/1.1 {status} X\r\n{headers}Content-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    )
}

/// What the platforms answer where nothing is wrong.
fn usual(line: &str, shown: &[String], body: &str, state: &State) -> (u16, String, String) {
    let has = |header: &str| shown.iter().any(|it| it == header);
    let none = String::new;
    if line.starts_with("POST /api/v1/login") {
        // As a form writes it.
        let is_right = body == "username=belay%40example.com&password=pass%20word%26for%3Dtests";
        let headers = if is_right {
            "Set-Cookie: SESSION=session-1; Path=/; HttpOnly\r\nLocation: /applications\r\n"
        } else {
            "Set-Cookie: SESSION=nobody; Path=/\r\nLocation: /user/login?error=true\r\n"
        };
        return (302, headers.to_owned(), none());
    }
    if line.contains(" /api/v1/") {
        if !has("cookie: SESSION=session-1") || !has("x-requested-by: Appsmith") {
            return (401, none(), none());
        }
        return (200, none(), appsmith(line, state));
    }
    if !has(&format!("authorization: Basic {TOKEN}")) {
        return (403, none(), r#"{"message":"Unauthorized"}"#.to_owned());
    }
    tooljet(line, state)
}

fn appsmith(line: &str, state: &State) -> String {
    let good =
        |data: &str| format!(r#"{{"responseMeta":{{"status":200,"success":true}},"data":{data}}}"#);
    match line {
        "GET /api/v1/workspaces/home" => good(r#"[{"id":"w1","name":"Acme"}]"#),
        "GET /api/v1/applications/home?workspaceId=w1" => {
            let State { remote, branch, .. } = state;
            let app = |(number, name): (usize, &String)| {
                format!(
                    r#"{{"id":"a{number}","name":"{name}","gitApplicationMetadata":{{"remoteUrl":"{remote}","branchName":"{branch}"}}}}"#
                )
            };
            let apps: Vec<String> = state.apps.iter().enumerate().map(app).collect();
            good(&format!("[{}]", apps.join(",")))
        }
        _ => good("{}"),
    }
}

fn tooljet(line: &str, state: &State) -> (u16, String, String) {
    let apps = || {
        let app =
            |(number, name): (usize, &String)| format!(r#"{{"id":"t{number}","name":"{name}"}}"#);
        state.apps.iter().enumerate().map(app).collect::<Vec<_>>().join(",")
    };
    let (status, body) = match line {
        "GET /api/ext/workspaces" => {
            (200, r#"[{"id":"o1","name":"Acme"},{"id":"o2","name":"Others"}]"#.to_owned())
        }
        "GET /api/ext/workspace/o1/apps" => (200, format!("[{}]", apps())),
        "GET /api/ext/workspace/o2/apps" => (200, "[]".to_owned()),
        "POST /api/ext/apps?createMode=git" => (201, r#"{"id":"t9"}"#.to_owned()),
        // No body, as some releases answer.
        _ => (204, String::new()),
    };
    (status, String::new(), body)
}
