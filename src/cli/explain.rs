//! `frontgate explain`: which rule takes a URL, where it goes and why.

use std::{
    io::{self, Write},
    net::IpAddr,
};

use http::Method;
use serde_json::json;

use super::{
    admin::{self, AdminArgs},
    explained::text,
    order::complain,
};
use crate::{
    admin::{Ask, explain_query},
    config::{self, EXIT_CONFIG, render},
    forward,
    route::{Asked, Explanation, Table},
};

/// Tell which rule takes a URL, where it goes and why.
///
/// A running Frontgate is asked for the servers that could be chosen now; where none answers, the
/// configuration alone is explained. Exit code 0: explained, whatever the verdict is. 1: no listener
/// takes such a request. 2: the URL or a header field is malformed. 78: the configuration is invalid.
#[derive(Debug, clap::Args)]
pub(super) struct ExplainArgs {
    /// What a client asks for; https where it says no scheme
    #[arg(value_name = "URL")]
    url: String,
    /// Its method
    #[arg(long, short = 'X', value_name = "METHOD", default_value = "GET")]
    method: Method,
    /// Its address [default: one that is nobody's]
    #[arg(long, value_name = "IP")]
    from: Option<IpAddr>,
    /// A header field that it sends; may be given several times
    #[arg(long = "header", short = 'H', value_name = "NAME: VALUE")]
    headers: Vec<String>,
    /// Its cookies
    #[arg(long, value_name = "NAME=VALUE; …")]
    cookie: Option<String>,
    #[command(flatten)]
    admin: AdminArgs,
    /// Ask no running Frontgate
    #[arg(long)]
    offline: bool,
    /// For programs
    #[arg(long)]
    json: bool,
}

/// Runs the command; the result is the exit code.
pub(super) fn run(args: &ExplainArgs) -> i32 {
    let asked = match args.asked() {
        Ok(asked) => asked,
        Err(text) => {
            complain("explain", &text);
            return 2;
        }
    };
    let (told, by) = match args.running() {
        Ok(told) => told,
        Err(why) => match args.configured(&asked) {
            Ok(told) => (told, format!("{} alone: {why}", args.admin.config().display())),
            Err((code, text)) => {
                complain("explain", &text);
                return code;
            }
        },
    };
    let out = if args.json {
        let mut value = json!(told);
        if let Some(keys) = value.as_object_mut() {
            keys.insert("explained_by".to_owned(), by.into());
        }
        format!("{value:#}\n")
    } else {
        text(&told, &by)
    };
    // A reader that went away wanted no more.
    let _ = io::stdout().write_all(out.as_bytes());
    0
}

impl ExplainArgs {
    fn fields(&self) -> Vec<String> {
        let cookie = self.cookie.iter().map(|cookie| format!("Cookie: {cookie}"));
        self.headers.iter().cloned().chain(cookie).collect()
    }

    fn asked(&self) -> Result<Asked, String> {
        let mut asked = Asked::new(&self.url)?;
        asked.method = self.method.clone();
        asked.from = self.from.unwrap_or(asked.from);
        for field in self.fields() {
            asked.header(&field)?;
        }
        Ok(asked)
    }

    /// What the running Frontgate says, and where that is; or why it cannot be asked.
    fn running(&self) -> Result<(Explanation, String), String> {
        if self.offline {
            return Err("nobody was asked".to_owned());
        }
        let (addresses, token) = self.admin.reading().map_err(|(_, text)| text)?;
        let at = addresses.first().ok_or("there is no address to ask")?;
        let from = self.from.map(|from| from.to_string());
        let query = explain_query(&self.url, self.method.as_str(), from.as_deref(), &self.fields());
        let path = format!("/api/v1/explain?{query}");
        let ask = Ask { method: "GET", path: &path, token: token.as_ref(), body: "" };
        Ok((admin::ask(&ask, at, admin::SOON)?, format!("the running Frontgate at {at}")))
    }

    /// What the configuration says.
    fn configured(&self, asked: &Asked) -> Result<Explanation, (i32, String)> {
        let outcome = config::load(&self.admin.config());
        let Some(site) = outcome.site else {
            let findings = render::text(&outcome.findings, false);
            return Err((EXIT_CONFIG, format!("the configuration is invalid\n{findings}")));
        };
        let told = forward::explain::configured(&site, &Table::new(&site), asked);
        told.map_err(|text| (1, text))
    }
}
