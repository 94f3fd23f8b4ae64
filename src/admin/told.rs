//! One word for the state of a server, and why.

use std::time::SystemTime;

use crate::farm::{Order, ServerStatus, Standing, State};

/// What people are told of a server.
#[derive(Debug, PartialEq)]
pub(super) struct Told {
    /// `up`, `down`, `out`, `probation`, `drain` or `maintenance`.
    pub(super) word: &'static str,
    pub(super) since: Option<SystemTime>,
    pub(super) reason: Option<String>,
}

impl Told {
    /// What an administrator wants comes first, then what probes say, then live traffic; reasons
    /// of the others are told too.
    pub(super) fn of(status: &ServerStatus, order: Option<&Order>, state: State) -> Self {
        let ejected = status.ejected.as_ref();
        let by_traffic = match status.standing {
            Standing::Fine => None,
            Standing::Probation => Some("probation"),
            Standing::Gently | Standing::Out => Some("out"),
        };
        let mut reasons = Vec::new();
        if let Some(order) = order.filter(|order| state == order.state && state != State::Ready) {
            let why = order.why.as_ref().map(|why| format!(": {why}")).unwrap_or_default();
            reasons.push(format!("by {}{why}", order.who));
        }
        if !status.healthy {
            reasons.push(status.reason.as_deref().unwrap_or("not healthy").to_owned());
        }
        if let Some((reason, left)) = ejected {
            reasons.push(format!("{reason}, for {} s", left.as_secs()));
        }
        let since = order.map(|order| order.since);
        let (word, since) = match (state, status.healthy, by_traffic) {
            (State::Maintenance, ..) => ("maintenance", since),
            (State::Drain, ..) => ("drain", since),
            (State::Ready, false, _) => ("down", Some(status.since)),
            (State::Ready, true, Some(word)) => (word, None),
            (State::Ready, true, None) => ("up", Some(status.since)),
        };
        let reason = (!reasons.is_empty()).then(|| reasons.join("; "));
        Self { word, since, reason }
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;

    #[test]
    fn orders_come_before_health_and_health_before_traffic() {
        let status = |healthy, standing, out: bool| ServerStatus {
            healthy,
            since: UNIX_EPOCH,
            reason: (!healthy).then(|| "connect refused".into()),
            standing,
            ejected: out.then(|| ("10 resets".into(), Duration::from_secs(9))),
            share: None,
        };
        let order = |state| Order {
            state,
            who: "jo".into(),
            why: Some("patches".into()),
            since: UNIX_EPOCH + Duration::from_secs(5),
        };
        let told = |status: &ServerStatus, state| {
            let told = Told::of(status, Some(&order(state)), state);
            (told.word, told.since.is_some(), told.reason.unwrap_or_default())
        };
        let (up, down) =
            (status(true, Standing::Fine, false), status(false, Standing::Fine, false));
        let out = status(true, Standing::Out, true);
        assert_eq!(told(&up, State::Ready), ("up", true, String::new()));
        assert_eq!(told(&up, State::Drain), ("drain", true, "by jo: patches".into()));
        let both = "by jo: patches; connect refused".to_owned();
        assert_eq!(told(&down, State::Maintenance), ("maintenance", true, both));
        assert_eq!(told(&down, State::Ready), ("down", true, "connect refused".into()));
        assert_eq!(told(&out, State::Ready), ("out", false, "10 resets, for 9 s".into()));
        let probation = status(true, Standing::Probation, false);
        assert_eq!(told(&probation, State::Ready).0, "probation");
        assert_eq!(Told::of(&up, None, State::Ready).word, "up");
    }
}
