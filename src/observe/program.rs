//! The program's own log, on stderr.

use std::{
    io::{self, Write},
    sync::OnceLock,
    time::Duration,
};

use env_logger::{Target as LoggerTarget, WriteStyle};
use log::error;

use super::{
    lines::{Event, Header, Lines},
    target::Target,
};

/// How long the exit waits for lines that are not written yet.
const FLUSH: Duration = Duration::from_secs(2);

static LOG: OnceLock<Lines> = OnceLock::new();

/// Starts the program's own log on stderr; `default` is what is told unless `RUST_LOG` says
/// otherwise. A line is never waited for: nobody may be reading stderr.
pub fn start_log(default: &str) {
    let filter = env_logger::Env::default().default_filter_or(default);
    let mut builder = env_logger::Builder::from_env(filter);
    // Without the thread, stderr as it is: better a log that may block than none.
    if let Ok(lines) = Target::stderr()
        .and_then(|t| Lines::start("log", t, Header::default(), Duration::ZERO, Box::new(tell)))
    {
        let lines = LOG.get_or_init(|| lines);
        builder.target(LoggerTarget::Pipe(Box::new(Pipe(lines)))).write_style(style());
    }
    let _ = builder.try_init();
}

/// Waits until the program's own log is written, two seconds at most: for the end of the
/// program.
pub fn flush_log() {
    if let Some(lines) = LOG.get() {
        lines.flush(FLUSH);
    }
}

/// Only the writer may say something, and only when there is room again: a line about a line
/// that found no room would find none either.
fn tell(event: &Event<'_>) {
    if let Event::Recovered { .. } = event {
        error!("log: {event}");
    }
}

/// What `env_logger` itself decides for stderr; of a pipe it thinks that it has no colours.
fn style() -> WriteStyle {
    match std::env::var("RUST_LOG_STYLE").as_deref() {
        Ok("always") => WriteStyle::Always,
        Ok("never") => WriteStyle::Never,
        _ => anstream::AutoStream::choice(&io::stderr()).into(),
    }
}

/// `env_logger` writes each record in one piece.
struct Pipe(&'static Lines);

impl Write for Pipe {
    fn write(&mut self, record: &[u8]) -> io::Result<usize> {
        self.0.push(record.to_vec());
        Ok(record.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::{
        fs::File,
        io::{Read, pipe},
        os::fd::OwnedFd,
        time::Instant,
    };

    use log::{Level, Log, Record};

    use super::*;

    #[test]
    fn a_stderr_that_nobody_reads_holds_no_one_up() {
        let (mut reader, writer) = pipe().unwrap();
        let file = File::from(OwnedFd::from(writer));
        let target = Target::file("stderr".to_owned(), file);
        let header = Header::default();
        let lines =
            Lines::start("test-log", target, header, Duration::ZERO, Box::new(tell)).unwrap();
        let lines: &'static Lines = Box::leak(Box::new(lines));
        let logger = env_logger::Builder::new()
            .filter_level(log::LevelFilter::Info)
            .target(LoggerTarget::Pipe(Box::new(Pipe(lines))))
            .build();
        let say = |text: &str| {
            let (level, target) = (Level::Info, "frontgate");
            logger.log(
                &Record::builder().level(level).target(target).args(format_args!("{text}")).build(),
            );
        };
        let begun = Instant::now();
        say("first");
        let long = "x".repeat(64 * 1024);
        (0..256).for_each(|_| say(&long));
        assert!(begun.elapsed() < Duration::from_secs(10));
        assert!(lines.dropped() > 0);
        let mut head = [0; 256];
        reader.read_exact(&mut head).unwrap();
        let head = String::from_utf8_lossy(&head);
        assert!(head.contains(" INFO  frontgate] first\n["), "{head}");
    }
}
