//! `GET /api/v1/explain`.

use http::{Method, StatusCode};

use super::answer::Problem;
use crate::{
    forward::{Live, explain},
    route::{Asked, Explanation},
};

/// Answers the question in this query: `url` (needed), `method`, `from`, and `header` as often as
/// wanted.
pub(super) fn answer(live: &Live, query: &str) -> Result<Explanation, Problem> {
    asked(query)
        .and_then(|asked| explain::live(live, &asked))
        .map_err(|why| Problem::new(StatusCode::BAD_REQUEST, why))
}

fn asked(query: &str) -> Result<Asked, String> {
    let mut pairs = Vec::new();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        pairs.push((name, decoded(value)?));
    }
    let url = pairs.iter().find(|(name, _)| *name == "url").map(|(_, value)| value);
    let mut asked = Asked::new(url.ok_or("`url` is missing")?)?;
    for (name, value) in &pairs {
        match *name {
            "url" => {}
            "method" => {
                asked.method = Method::from_bytes(value.as_bytes())
                    .map_err(|_| format!("`{value}` is no method"))?;
            }
            "from" => {
                asked.from = value.parse().map_err(|_| format!("`{value}` is no address"))?;
            }
            "header" => asked.header(value)?,
            other => return Err(format!("`{other}` is none of url, method, from, header")),
        }
    }
    Ok(asked)
}

/// A value of `application/x-www-form-urlencoded`.
fn decoded(value: &str) -> Result<String, String> {
    let mut bytes = value.bytes();
    let mut out = Vec::new();
    while let Some(byte) = bytes.next() {
        out.push(match byte {
            b'+' => b' ',
            b'%' => {
                let digits = [bytes.next().unwrap_or(b'-'), bytes.next().unwrap_or(b'-')];
                let digits = std::str::from_utf8(&digits).ok();
                let byte = digits.and_then(|digits| u8::from_str_radix(digits, 16).ok());
                byte.ok_or_else(|| format!("`{value}` has an escape that is none"))?
            }
            other => other,
        });
    }
    String::from_utf8(out).map_err(|_| format!("`{value}` is not UTF-8"))
}

/// The query that asks this again.
pub fn query(url: &str, method: &str, from: Option<&str>, headers: &[String]) -> String {
    let mut query = format!("url={}&method={}", encoded(url), encoded(method));
    for (name, value) in
        from.map(|from| ("from", from)).into_iter().chain(headers.iter().map(|h| ("header", &**h)))
    {
        query += &format!("&{name}={}", encoded(value));
    }
    query
}

fn encoded(text: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~/:".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out += &format!("%{byte:02X}");
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_asks_what_was_meant() {
        let headers = ["User-Agent: a&b=c+d%".to_owned(), "x: ü".to_owned()];
        let query = query("https://a.x/p q?x=1&y=2", "POST", Some("2001:db8::1"), &headers);
        let asked = asked(&query).unwrap();
        assert_eq!((&*asked.host, &*asked.target), ("a.x", "/p%20q?x=1&y=2"));
        assert_eq!((asked.method.as_str(), asked.from.to_string()), ("POST", "2001:db8::1".into()));
        assert_eq!(asked.headers["user-agent"], "a&b=c+d%");
        assert_eq!(asked.headers["x"].as_bytes(), "ü".as_bytes());
    }

    #[test]
    fn wrong_questions_are_told_what_is_wrong() {
        for (query, told) in [
            ("", "`url` is missing"),
            ("method=GET", "`url` is missing"),
            ("url=ftp://x", "`ftp` is neither http nor https"),
            ("url=x&from=me", "`me` is no address"),
            ("url=x&method=G+T", "`G T` is no method"),
            ("url=x&header=a", "`a` is no header field: want `Name: value`"),
            ("url=x&bogus=1", "`bogus` is none of url, method, from, header"),
            ("url=%zz", "`%zz` has an escape that is none"),
            ("url=%ff", "`%ff` is not UTF-8"),
        ] {
            assert_eq!(asked(query).unwrap_err(), told);
        }
    }
}
