//! `[metrics]`: `/metrics` for Prometheus and `/healthz`, by HTTP/1.1.
//!
//! Grammar: a request line and headers up to an empty line, of which only the method and the path are read. One request
//! a connection; the answer closes it. `/healthz` is 200 while the database can be asked and 503 with the reasons while
//! it cannot: daemons go on answering from memory then, so it is for alarms, not for taking a daemon out of service.
//!
//! Limits: [`MAX_HEAD`] bytes of request, [`DEADLINE`] for the whole exchange.
//!
//! Security: nothing here names a user. There is no password, so the default is an address of this host.
//!
//! Source: RFC 9112; Prometheus exposition format 0.0.4.

mod text;

use crate::program::Serving;
use crate::{Activation, Bound, Limits, Listener, Shared, Shutdown, Stream, listen, serve};
use anyhow::Result;
use mailsql_config::{Config, Permissions};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// Longest request with its headers, in bytes.
const MAX_HEAD: usize = 8192;
/// Longest time for a request and its answer.
const DEADLINE: Duration = Duration::from_secs(5);
/// The format of `/metrics`.
const PROMETHEUS: &str = "text/plain; version=0.0.4; charset=utf-8";
const PLAIN: &str = "text/plain; charset=utf-8";

struct Service {
    listeners: Vec<Listener>,
    connections: usize,
}

/// Binds the listeners of `[metrics]`, if the configuration has that section.
///
/// # Errors
/// A line with the socket and what to do.
pub fn bind(config: &Config, activation: &mut Activation) -> Result<Option<Box<dyn Bound>>> {
    let Some(section) = &config.metrics else { return Ok(None) };
    let default = Permissions { mode: Some(0o660), ..Permissions::default() };
    let listeners = listen::bind("metrics", &section.listen, &default, activation)?;
    Ok(Some(Box::new(Service { listeners, connections: section.max_connections })))
}

impl Bound for Service {
    fn name(&self) -> &'static str {
        "metrics"
    }

    fn serve(self: Box<Self>, shared: Arc<Shared>, shutdown: Shutdown) -> Serving {
        let limits = Limits { connections: self.connections };
        Box::pin(serve(self.listeners, limits, shutdown, move |stream, _| {
            let shared = Arc::clone(&shared);
            async move {
                // Whoever is too slow for this is not answered.
                let _ = tokio::time::timeout(DEADLINE, answer(stream, &shared)).await;
            }
        }))
    }
}

async fn answer(mut stream: Stream, shared: &Shared) -> std::io::Result<()> {
    let mut head = Vec::with_capacity(512);
    let mut buffer = [0; 1024];
    while !ends(&head) && head.len() < MAX_HEAD {
        match stream.read(&mut buffer).await? {
            0 => return Ok(()),
            length => head.extend_from_slice(buffer.get(..length).unwrap_or_default()),
        }
    }
    let (status, kind, body) = match request(&head) {
        Err(status) => (status, PLAIN, format!("{status}\n")),
        Ok((_, "/metrics")) => ("200 OK", PROMETHEUS, text::render(shared)),
        Ok((_, "/healthz")) => match text::trouble(shared) {
            None => ("200 OK", PLAIN, "ok\n".to_owned()),
            Some(why) => ("503 Service Unavailable", PLAIN, why),
        },
        Ok(_) => ("404 Not Found", PLAIN, "there are /metrics and /healthz\n".to_owned()),
    };
    let only_head = matches!(request(&head), Ok(("HEAD", _)));
    let answer = format!(
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    stream.write_all(answer.as_bytes()).await?;
    if !only_head {
        stream.write_all(body.as_bytes()).await?;
    }
    stream.shutdown().await
}

fn ends(head: &[u8]) -> bool {
    head.windows(4).any(|window| window == b"\r\n\r\n") || head.windows(2).any(|window| window == b"\n\n")
}

/// Method and path of a request, without its query; or the status that refuses it.
fn request(head: &[u8]) -> Result<(&str, &str), &'static str> {
    if !ends(head) {
        return Err("431 Request Header Fields Too Large");
    }
    let line = head.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let line = std::str::from_utf8(line).map_err(|_| "400 Bad Request")?;
    let mut words = line.split_ascii_whitespace();
    match (words.next(), words.next(), words.next(), words.next()) {
        (Some(method @ ("GET" | "HEAD")), Some(path), Some(version), None) if version.starts_with("HTTP/1.") => {
            Ok((method, path.split('?').next().unwrap_or(path)))
        }
        (Some(_), Some(_), Some(version), None) if version.starts_with("HTTP/1.") => Err("405 Method Not Allowed"),
        _ => Err("400 Bad Request"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_read_by_their_first_line() {
        for (head, expected) in [
            ("GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n", Ok(("GET", "/metrics"))),
            ("HEAD /healthz?x=1 HTTP/1.0\r\n\r\n", Ok(("HEAD", "/healthz"))),
            ("GET / HTTP/1.1\n\n", Ok(("GET", "/"))),
            ("POST /metrics HTTP/1.1\r\n\r\n", Err("405 Method Not Allowed")),
            ("GET /metrics\r\n\r\n", Err("400 Bad Request")),
            ("GET /a b HTTP/1.1\r\n\r\n", Err("400 Bad Request")),
            ("GET /metrics HTTP/2\r\n\r\n", Err("400 Bad Request")),
            ("\r\n\r\n", Err("400 Bad Request")),
            ("GET /metrics HTTP/1.1\r\nHost: x\r\n", Err("431 Request Header Fields Too Large")),
        ] {
            assert_eq!(request(head.as_bytes()), expected, "{head:?}");
        }
        assert_eq!(request(b"GET /\xff HTTP/1.1\r\n\r\n"), Err("400 Bad Request"));
    }
}
