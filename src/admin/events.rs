//! `GET /api/v1/events`: the latest events, or those after one.

use std::sync::Arc;

use http::StatusCode;
use serde::{Deserialize, Serialize};

use super::answer::{Answer, Problem, json};
use crate::events::{Event, Events, KEPT, Undelivered};

/// Events that are shown unless `limit` says otherwise.
const SHOWN: usize = 100;

/// Version of the shape of the answer.
const VERSION: u32 = 1;

/// `GET /api/v1/events`.
#[derive(Debug, Serialize, Deserialize)]
pub struct EventList {
    /// Version of this shape.
    pub version: u32,
    /// The number of the last event there is, shown here or not: what to ask for next time.
    pub last: u64,
    /// How many could not be delivered to `events.command` and `events.webhook`.
    pub undelivered: Undelivered,
    /// Oldest first.
    pub events: Vec<Arc<Event>>,
}

/// Which events are wanted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Wanted {
    /// Those after this one, oldest first.
    pub(super) after: Option<u64>,
    /// This many at most.
    pub(super) limit: Option<usize>,
}

impl Wanted {
    /// What a query asks for.
    pub(super) fn of(query: Option<&str>) -> Result<Self, Problem> {
        let mut wanted = Self::default();
        let pairs = query.unwrap_or_default().split('&').filter(|pair| !pair.is_empty());
        for (key, value) in pairs.map(|pair| pair.split_once('=').unwrap_or((pair, ""))) {
            let number = || {
                let text = format!("`{key}` is a number");
                value.parse::<u64>().map_err(|_| Problem::new(StatusCode::BAD_REQUEST, text))
            };
            match key {
                "after" => wanted.after = Some(number()?),
                "limit" => {
                    let most = usize::try_from(number()?).unwrap_or(KEPT);
                    wanted.limit = Some(most.min(KEPT));
                }
                _ => {
                    let text = "the query knows `after=ID` and `limit=NUMBER`";
                    return Err(Problem::new(StatusCode::BAD_REQUEST, text));
                }
            }
        }
        Ok(wanted)
    }
}

/// The events that a query asks for.
pub(super) fn answer(events: &Events, query: Option<&str>) -> Result<Answer, Problem> {
    let wanted = Wanted::of(query)?;
    let limit = wanted.limit.unwrap_or(SHOWN);
    // Before they are read: whoever goes on from there sees one twice at worst.
    let (last, undelivered) = (events.last(), events.undelivered());
    let events = match wanted.after {
        Some(id) => events.after(id, limit),
        None => events.latest(limit),
    };
    Ok(json(StatusCode::OK, &EventList { version: VERSION, last, undelivered, events }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events::{News, code};

    #[test]
    fn a_query_says_which_events() {
        let of = |query: &str| Wanted::of(Some(query)).map_err(|problem| problem.status.as_u16());
        assert_eq!(Wanted::of(None).unwrap(), Wanted::default());
        assert_eq!(of("after=7&limit=2"), Ok(Wanted { after: Some(7), limit: Some(2) }));
        assert_eq!(of("limit=99999999").unwrap().limit, Some(KEPT));
        for wrong in ["after=", "after=-1", "limit=x", "since=1", "after"] {
            assert_eq!(of(wrong), Err(400), "{wrong}");
        }
    }

    #[test]
    fn the_latest_come_or_those_after_one() {
        let events = Events::default();
        for n in 0..5 {
            events.tell(News::new(code::SERVER_UP, n.to_string()));
        }
        let shown = |query: &str| -> (u64, Vec<String>) {
            let answer = answer(&events, Some(query)).unwrap();
            let list: EventList = serde_json::from_slice(answer.body()).unwrap();
            (list.last, list.events.iter().map(|event| event.text.clone()).collect())
        };
        let last = events.last();
        assert_eq!(shown("limit=2"), (last, vec!["3".to_owned(), "4".to_owned()]));
        let after = format!("limit=2&after={}", last - 3);
        assert_eq!(shown(&after), (last, vec!["2".to_owned(), "3".to_owned()]));
        assert_eq!(shown(&format!("after={last}")), (last, vec![]));
    }
}
