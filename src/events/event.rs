//! One event, and what is said to make one.

use std::{borrow::Cow, sync::Arc, time::SystemTime};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::code::{Code, Severity};

/// Something that changed. Its JSON is what the API, the command and the webhook show.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// Grows from event to event, also across restarts.
    pub id: u64,
    /// When; RFC 3339 in UTC with milliseconds.
    #[serde(with = "rfc3339")]
    pub time: SystemTime,
    /// What kind of event; stable, see `docs/reference/events.md`.
    pub code: Cow<'static, str>,
    /// How bad it is.
    pub severity: Severity,
    /// The farm that it is about.
    pub farm: Option<Arc<str>>,
    /// The server of that farm.
    pub server: Option<Arc<str>>,
    /// For people: the line of the log.
    pub text: String,
    /// For programs: reason, who, days left…; keys depend on the code and are only ever added.
    pub details: Map<String, Value>,
}

/// An event to be told: what is known before it has a number and a time.
#[derive(Clone, Debug)]
pub struct News {
    pub(super) code: &'static Code,
    pub(super) farm: Option<Arc<str>>,
    pub(super) server: Option<Arc<str>>,
    pub(super) text: String,
    pub(super) details: Map<String, Value>,
    pub(super) findings: String,
}

/// So much of the text of findings an event keeps, in bytes.
const FINDINGS: usize = 16 * 1024;

impl News {
    /// An event of this kind; `text` is for people.
    pub fn new(code: &'static Code, text: impl Into<String>) -> Self {
        Self {
            code,
            farm: None,
            server: None,
            text: text.into(),
            details: Map::new(),
            findings: String::new(),
        }
    }

    /// It is about this farm.
    #[must_use]
    pub fn farm(self, farm: &Arc<str>) -> Self {
        Self { farm: Some(farm.clone()), ..self }
    }

    /// It is about this server of a farm.
    #[must_use]
    pub fn server(self, farm: &Arc<str>, server: &Arc<str>) -> Self {
        Self { farm: Some(farm.clone()), server: Some(server.clone()), ..self }
    }

    /// Something for programs.
    #[must_use]
    pub fn with(mut self, key: &str, value: impl Into<Value>) -> Self {
        self.details.insert(key.to_owned(), value.into());
        self
    }

    /// Findings: lines of their own below the text in the log, `findings` among the details.
    #[must_use]
    pub fn findings(self, findings: &str) -> Self {
        let findings = findings.trim_end();
        if findings.is_empty() {
            return self;
        }
        // A thousand events are kept: of ten thousand findings each needs only the first.
        let end = findings.char_indices().map(|(at, _)| at).find(|at| *at >= FINDINGS);
        let cut = end.and_then(|end| findings.get(..end)).map(|first| format!("{first}\n…"));
        let findings = cut.as_deref().unwrap_or(findings);
        Self { findings: format!("\n{findings}"), ..self.with("findings", findings) }
    }
}

/// Times as the API shows them.
mod rfc3339 {
    use std::time::SystemTime;

    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(super) fn serialize<S: Serializer>(time: &SystemTime, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(&humantime::format_rfc3339_millis(*time))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<SystemTime, D::Error> {
        let text = String::deserialize(from)?;
        humantime::parse_rfc3339(&text).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::json;

    use super::*;

    #[test]
    fn the_json_has_every_key_and_reads_back() {
        let time = SystemTime::UNIX_EPOCH + Duration::from_millis(1_700_000_000_123);
        let event = Event {
            id: 7,
            time,
            code: "server_down".into(),
            severity: Severity::Warning,
            farm: Some("lyncweb".into()),
            server: None,
            text: "farm lyncweb: it is down".to_owned(),
            details: Map::from_iter([("reason".to_owned(), json!("connect refused"))]),
        };
        let written = serde_json::to_value(&event).unwrap();
        assert_eq!(
            written,
            json!({
                "id": 7, "time": "2023-11-14T22:13:20.123Z", "code": "server_down",
                "severity": "warning", "farm": "lyncweb", "server": null,
                "text": "farm lyncweb: it is down", "details": { "reason": "connect refused" },
            })
        );
        assert_eq!(serde_json::from_value::<Event>(written).unwrap(), event);
    }
}
