//! When to say that a certificate expires: a pure function of what is served, what was said, and
//! the time.

use std::{
    collections::HashMap,
    time::{Duration, SystemTime},
};

use super::{News, code};

/// How often certificates are looked at.
pub const EVERY: Duration = Duration::from_secs(3600);

const DAY: Duration = Duration::from_secs(24 * 3600);

/// A certificate that is served.
#[derive(Clone, Debug)]
pub struct Served {
    /// Tells certificates apart: a renewed one is another one.
    pub fingerprint: String,
    /// Its names.
    pub names: Vec<String>,
    /// Where it is configured.
    pub place: String,
    /// When it expires.
    pub not_after: SystemTime,
}

/// How near the end is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    In30Days,
    In14Days,
    In3Days,
    Expired,
}

/// The stage that a certificate has reached.
fn stage(not_after: SystemTime, now: SystemTime) -> Option<Stage> {
    let Ok(left) = not_after.duration_since(now) else { return Some(Stage::Expired) };
    let stages = [(3, Stage::In3Days), (14, Stage::In14Days), (30, Stage::In30Days)];
    stages.into_iter().find(|(days, _)| left <= DAY * *days).map(|(_, stage)| stage)
}

/// What was said about which certificate.
#[derive(Debug, Default)]
pub struct Expiry {
    told: HashMap<String, Stage>,
}

impl Expiry {
    /// What there is to say now: for each certificate at most one event, and each stage of it
    /// once. Certificates that are gone are forgotten.
    pub fn look(&mut self, served: &[Served], now: SystemTime) -> Vec<News> {
        self.told.retain(|known, _| served.iter().any(|one| one.fingerprint == *known));
        let mut news = Vec::new();
        for one in served {
            let Some(stage) = stage(one.not_after, now) else { continue };
            let told = self.told.insert(one.fingerprint.clone(), stage);
            if told.is_none_or(|told| told < stage) {
                news.push(say(one, now));
            } else if let Some(told) = told {
                // A clock that was set back says nothing again.
                self.told.insert(one.fingerprint.clone(), told);
            }
        }
        news
    }
}

fn say(one: &Served, now: SystemTime) -> News {
    let not_after = humantime::format_rfc3339_seconds(one.not_after).to_string();
    let name = match one.names.as_slice() {
        [] => "without names".to_owned(),
        [name] => name.clone(),
        [name, more @ ..] => format!("{name} and {} more names", more.len()),
    };
    let what = format!("certificate {name} ({})", one.place);
    let news = match one.not_after.duration_since(now) {
        Err(_) => News::new(code::CERTIFICATE_EXPIRED, format!("{what} expired on {not_after}")),
        Ok(left) => {
            let days = left.as_secs() / DAY.as_secs();
            let when = match days {
                0 => "in less than a day".to_owned(),
                1 => "in 1 day".to_owned(),
                days => format!("in {days} days"),
            };
            let text = format!("{what} expires {when}, on {not_after}");
            News::new(code::CERTIFICATE_EXPIRING, text).with("days", days)
        }
    };
    news.with("names", one.names.clone())
        .with("not_after", not_after)
        .with("place", &*one.place)
        .with("fingerprint", &*one.fingerprint)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(days: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + DAY * u32::try_from(days).unwrap()
    }

    fn served(fingerprint: &str, not_after: u64) -> Served {
        Served {
            fingerprint: fingerprint.to_owned(),
            names: vec!["meet.contoso.com".to_owned()],
            place: "f.yaml:3:5".to_owned(),
            not_after: at(not_after),
        }
    }

    fn texts(expiry: &mut Expiry, served: &[Served], now: SystemTime) -> Vec<String> {
        expiry.look(served, now).into_iter().map(|news| news.text).collect()
    }

    #[test]
    fn each_stage_is_told_once_whatever_the_clock_does() {
        let (mut expiry, one) = (Expiry::default(), [served("a", 100)]);
        let mut told = Vec::new();
        for hour in 60 * 24..102 * 24_u64 {
            let now = SystemTime::UNIX_EPOCH + Duration::from_secs(hour * 3600);
            told.extend(expiry.look(&one, now).into_iter().map(|n| (hour / 24, n.code.id)));
            assert!(expiry.look(&one, now - DAY).is_empty());
        }
        let expiring = "certificate_expiring";
        let all = [(70, expiring), (86, expiring), (97, expiring), (100, "certificate_expired")];
        assert_eq!(told, all);
    }

    #[test]
    fn at_start_only_the_nearest_stage_is_told() {
        let ten = texts(&mut Expiry::default(), &[served("a", 100)], at(90));
        let text = "certificate meet.contoso.com (f.yaml:3:5) expires in 10 days, on \
                    1970-04-11T00:00:00Z";
        assert_eq!(ten, [text]);
        let gone = texts(&mut Expiry::default(), &[served("a", 100)], at(101));
        let text = "certificate meet.contoso.com (f.yaml:3:5) expired on 1970-04-11T00:00:00Z";
        assert_eq!(gone, [text]);
        assert!(texts(&mut Expiry::default(), &[served("a", 100)], at(69)).is_empty());
    }

    #[test]
    fn a_renewed_certificate_begins_anew_and_twins_are_one() {
        let mut expiry = Expiry::default();
        assert_eq!(texts(&mut expiry, &[served("a", 100), served("a", 100)], at(90)).len(), 1);
        assert!(texts(&mut expiry, &[served("b", 200)], at(91)).is_empty());
        assert_eq!(texts(&mut expiry, &[served("b", 200)], at(175)).len(), 1);
        // The old one again: somebody put the wrong file back.
        assert_eq!(texts(&mut expiry, &[served("a", 100)], at(95)).len(), 1);
    }
}
