//! What the program's log says about spans that do not arrive: when it begins, and when it is over.

use std::time::{Duration, Instant};

/// Between two lines about a collector that is merely slow.
const OFTEN: Duration = Duration::from_secs(60);

/// What has been told.
#[derive(Debug, Default)]
pub(super) struct Report {
    /// Whether the last posting failed.
    failing: bool,
    /// How many had been dropped when that was last told.
    told: u64,
    when: Option<Instant>,
}

impl Report {
    /// A posting to `collector` has ended; `dropped` spans are lost since the start. The line to
    /// be written, if it is worth one.
    pub(super) fn ended(
        &mut self,
        collector: &str,
        failure: Option<&str>,
        dropped: u64,
        now: Instant,
    ) -> Option<String> {
        let lost = dropped.saturating_sub(self.told);
        let recent = self.when.is_some_and(|when| now.duration_since(when) < OFTEN);
        let line = match (failure, self.failing) {
            (Some(_), true) => return None,
            (Some(why), false) => {
                format!("traces: {collector}: {why}; spans are dropped until that works")
            }
            (None, true) => {
                format!("traces: {collector} takes spans again, {lost} were dropped")
            }
            (None, false) if lost == 0 || recent => return None,
            (None, false) => {
                format!("traces: {collector} takes spans too slowly, {lost} were dropped")
            }
        };
        self.failing = failure.is_some();
        // While it fails, the end is what counts: all of it is told then.
        if !self.failing {
            self.told = dropped;
        }
        self.when = Some(now);
        Some(line)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trouble_is_told_once_and_its_end_with_what_it_cost() {
        let mut report = Report::default();
        let now = Instant::now();
        let mut ended = |failure, dropped| report.ended("otel:4318", failure, dropped, now);
        assert_eq!(ended(None, 0), None);
        let begins = ended(Some("refused"), 10).unwrap();
        assert_eq!(begins, "traces: otel:4318: refused; spans are dropped until that works");
        assert_eq!(ended(Some("refused"), 20), None);
        assert_eq!(ended(Some("status 503"), 30), None);
        let over = ended(None, 30).unwrap();
        assert_eq!(over, "traces: otel:4318 takes spans again, 30 were dropped");
        assert_eq!(ended(None, 30), None);
    }

    #[test]
    fn a_slow_collector_is_told_of_now_and_then() {
        let mut report = Report::default();
        let now = Instant::now();
        let slow = report.ended("otel", None, 7, now).unwrap();
        assert_eq!(slow, "traces: otel takes spans too slowly, 7 were dropped");
        assert_eq!(report.ended("otel", None, 9, now + OFTEN / 2), None);
        let slow = report.ended("otel", None, 9, now + OFTEN).unwrap();
        assert_eq!(slow, "traces: otel takes spans too slowly, 2 were dropped");
    }
}
