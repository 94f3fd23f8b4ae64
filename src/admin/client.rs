//! Asking a running Frontgate, for commands.

use std::{
    io::{BufRead, BufReader, Read, Write},
    time::Duration,
};

use anyhow::{Context, bail};

use super::Place;
use crate::site::Token;

/// How long a command waits for the admin side.
const PATIENCE: Duration = Duration::from_secs(5);
/// Longest answer that is read: a thousand servers take half a megabyte.
const LONGEST: u64 = 64 * 1024 * 1024;

/// Longest silence of a stream: three of its heartbeats.
const SILENCE: Duration = Duration::from_secs(45);

/// One question.
#[derive(Clone, Copy, Debug)]
pub struct Ask<'a> {
    /// `GET` or `POST`.
    pub method: &'a str,
    /// Path and query.
    pub path: &'a str,
    /// Shown to the other side, if there is one.
    pub token: Option<&'a Token>,
    /// JSON, for `POST`.
    pub body: &'a str,
}

impl Ask<'_> {
    /// Asks: the status and the body of the answer.
    ///
    /// # Errors
    /// Nobody listens there, or what answers is not HTTP.
    pub fn at(&self, place: &Place) -> anyhow::Result<(u16, String)> {
        self.within(place, PATIENCE)
    }

    /// The same, for an answer that may take this long.
    ///
    /// # Errors
    /// As for [`Ask::at`].
    pub fn within(&self, place: &Place, patience: Duration) -> anyhow::Result<(u16, String)> {
        let answer = exchange(place.connect(patience)?, &self.request())?;
        let Some((head, body)) = answer.split_once("\r\n\r\n") else { bail!("no HTTP answer") };
        let status = head.split(' ').nth(1).and_then(|code| code.parse().ok());
        Ok((status.context("no HTTP status")?, body.to_owned()))
    }

    /// Asks for a stream: the status, and what comes behind the header of the answer.
    ///
    /// # Errors
    /// Nobody listens there, or what answers is not HTTP.
    pub fn stream(&self, place: &Place) -> anyhow::Result<(u16, Box<dyn BufRead>)> {
        let mut stream = BufReader::new(place.connect(SILENCE)?);
        stream.get_mut().write_all(self.request().as_bytes())?;
        let mut status = String::new();
        stream.read_line(&mut status)?;
        let status = status.split(' ').nth(1).and_then(|code| code.parse().ok());
        let mut line = String::new();
        while stream.read_line(&mut line)? > 2 {
            line.clear();
        }
        Ok((status.context("no HTTP status")?, Box::new(stream)))
    }

    fn request(&self) -> String {
        let Self { method, path, token, body } = self;
        let mut head = format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\n");
        if let Some(token) = token {
            head += &format!("Authorization: Bearer {}\r\n", token.reveal());
        }
        if !body.is_empty() {
            let length = body.len();
            head += &format!("Content-Type: application/json\r\nContent-Length: {length}\r\n");
        }
        format!("{head}Connection: close\r\n\r\n{body}")
    }
}

/// GETs a page of the admin side: its status and its body.
///
/// # Errors
/// Nobody listens there, or what answers is not HTTP.
pub fn get(place: &Place, path: &str) -> anyhow::Result<(u16, String)> {
    Ask { method: "GET", path, token: None, body: "" }.at(place)
}

fn exchange(mut stream: impl Read + Write, request: &str) -> anyhow::Result<String> {
    stream.write_all(request.as_bytes())?;
    let mut answer = Vec::new();
    stream.take(LONGEST).read_to_end(&mut answer).context("no answer in time")?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}
