use std::{
    fs::File,
    io::{BufRead, BufReader, PipeReader, Read, pipe},
    os::fd::OwnedFd,
    path::Path,
    process::Command,
    sync::mpsc::{Receiver, channel},
};

use super::*;
use crate::site::LogTarget;

const SOON: Duration = Duration::from_secs(10);

fn target(name: &str, fd: impl Into<OwnedFd>) -> Target {
    Target::file(name.to_owned(), File::from(fd.into()))
}

fn open(path: &Path) -> io::Result<Target> {
    Target::open(&LogTarget::File(path.to_owned()))
}

/// A log and what it tells.
fn start(target: Target) -> (Lines, Receiver<String>) {
    let (tell, told) = channel();
    let tell = Box::new(move |event: &Event<'_>| {
        let _ = tell.send(event.to_string());
    });
    (Lines::start("test-log", target, Header::default(), Duration::ZERO, tell).unwrap(), told)
}

fn on_a_pipe() -> (Lines, Receiver<String>, PipeReader) {
    let (reader, writer) = pipe().unwrap();
    let (lines, told) = start(target("pipe", writer));
    (lines, told, reader)
}

fn full() -> Target {
    target("/dev/full", File::options().write(true).open("/dev/full").unwrap())
}

/// One line of 64 KiB: nothing but a reader makes room for a second one in a pipe.
fn big() -> Vec<u8> {
    let mut line = vec![b'x'; CHUNK - 1];
    line.push(b'\n');
    line
}

/// More than the pipe and the queue hold.
fn overfill(lines: &Lines) -> u64 {
    let many = (QUEUE / CHUNK + 8) as u64;
    (0..many).for_each(|_| lines.push(big()));
    many
}

#[test]
fn a_reader_that_reads_nothing_costs_lines_but_no_time() {
    let (lines, told, _reader) = on_a_pipe();
    let begun = Instant::now();
    overfill(&lines);
    assert!(lines.dropped() > 0);
    // Told though the writer is stuck; the lines after the first are not told one by one.
    let event = told.try_recv().unwrap();
    assert!(event.contains("pipe takes lines too slowly or not at all, 1 lines"), "{event}");
    assert!(told.try_recv().is_err());
    let limit = Duration::from_millis(200);
    let dropped = lines.dropped();
    let left = lines.close(limit);
    assert!(left > 0);
    assert!((limit..SOON).contains(&begun.elapsed()));
    assert!(lines.dropped() > dropped, "what is given up is counted");
    let dropped = lines.dropped();
    lines.push(b"late\n".to_vec());
    assert_eq!(lines.dropped(), dropped + 1);
}

#[test]
fn a_reader_that_reads_again_gets_the_next_lines() {
    let (lines, told, mut reader) = on_a_pipe();
    let pushed = overfill(&lines);
    assert!(told.recv_timeout(SOON).unwrap().contains("not at all"));
    let read = thread::spawn(move || {
        let mut text = String::new();
        reader.read_to_string(&mut text).map(|_| text)
    });
    let dropped = lines.dropped();
    let event = told.recv_timeout(SOON).unwrap();
    assert_eq!(event, format!("pipe takes lines again, {dropped} lines were dropped"));
    lines.push(b"after\n".to_vec());
    assert_eq!(lines.close(SOON), 0);
    drop(lines);
    let text = read.join().unwrap().unwrap();
    assert_eq!(text.lines().count() as u64, pushed - dropped + 1);
    assert!(text.ends_with("x\nafter\n"));
}

#[test]
fn a_failure_and_its_end_are_told_once() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log");
    let (lines, told) = start(full());
    for _ in 0..3 {
        lines.push(b"lost\n".to_vec());
        assert_eq!(lines.flush(SOON), 0);
    }
    assert_eq!(lines.dropped(), 3);
    let event = told.try_recv().unwrap();
    assert!(event.starts_with("cannot write to /dev/full: No space left"), "{event}");
    assert!(told.try_recv().is_err());
    lines.retarget(open(&path).unwrap(), Header::default()).unwrap();
    for _ in 0..3 {
        lines.push(b"kept\n".to_vec());
        assert_eq!(lines.flush(SOON), 0);
    }
    let event = told.try_recv().unwrap();
    assert_eq!(event, format!("{} takes lines again, 3 lines were dropped", path.display()));
    assert!(told.try_recv().is_err());
    assert_eq!(std::fs::read_to_string(path).unwrap(), "kept\n".repeat(3));
}

#[test]
fn a_reader_that_leaves_is_a_failure() {
    let (lines, told, reader) = on_a_pipe();
    drop(reader);
    lines.push(b"lost\n".to_vec());
    assert_eq!(lines.close(SOON), 0);
    assert_eq!(lines.dropped(), 1);
    assert!(told.try_recv().unwrap().starts_with("cannot write to pipe: Broken pipe"));
}

#[test]
fn another_target_does_not_wait_for_one_that_is_stuck() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log");
    let (lines, _told, reader) = on_a_pipe();
    overfill(&lines);
    lines.retarget(open(&path).unwrap(), Header::default()).unwrap();
    lines.flush(Duration::from_millis(1));
    // The stuck writer ends, without taking another line, when its reader leaves.
    drop(reader);
    assert_eq!(lines.close(SOON), 0);
    assert!(std::fs::metadata(&path).unwrap().len() as usize >= QUEUE - 2 * CHUNK);
}

#[test]
fn a_line_after_half_a_line_starts_on_its_own() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("pipe");
    assert!(Command::new("mkfifo").arg(&path).status().unwrap().success());
    let mut reader = File::options().read(true).write(true).open(&path).unwrap();
    let (lines, told) = start(open(&path).unwrap());
    // More than the pipe holds; the reader leaves in the middle of it.
    lines.push([b"x".repeat(8 * CHUNK), b"\n".to_vec()].concat());
    reader.read_exact(&mut [0]).unwrap();
    drop(reader);
    assert!(told.recv_timeout(SOON).unwrap().contains("Broken pipe"));
    let reader = BufReader::new(File::open(path).unwrap());
    lines.push(b"next\n".to_vec());
    let mut rest = reader.lines().map(Result::unwrap);
    assert!(rest.next().unwrap().ends_with("xxx"));
    assert_eq!(rest.next().unwrap(), "next");
    assert!(told.recv_timeout(SOON).unwrap().ends_with("again, 1 lines were dropped"));
}

#[test]
fn trouble_that_comes_and_goes_is_told_once_a_minute() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("pipe");
    assert!(Command::new("mkfifo").arg(&path).status().unwrap().success());
    let mut reader = File::options().read(true).write(true).open(&path).unwrap();
    let (lines, told) = start(open(&path).unwrap());
    for round in 0..5 {
        drop(reader);
        lines.push(b"lost\n".to_vec());
        assert_eq!(lines.flush(SOON), 0);
        assert_eq!(lines.dropped(), round + 1);
        reader = File::options().read(true).write(true).open(&path).unwrap();
        lines.push(b"kept\n".to_vec());
        assert_eq!(lines.flush(SOON), 0);
        reader.read_exact(&mut [0; 5]).unwrap();
    }
    assert!(told.try_recv().unwrap().contains("Broken pipe"));
    assert!(told.try_recv().unwrap().ends_with("again, 1 lines were dropped"));
    assert!(told.try_recv().is_err());
}

fn header(text: &str, last: bool) -> Header {
    Header { bytes: text.as_bytes().to_vec(), last }
}

#[test]
fn a_header_stands_before_its_lines_and_is_not_counted() {
    let dir = tempfile::tempdir().unwrap();
    let (one, two, three) =
        (dir.path().join("one"), dir.path().join("two"), dir.path().join("three"));
    let (lines, _told, reader) = on_a_pipe();
    overfill(&lines);
    // The same format in another file: in front of what is queued.
    lines.retarget(open(&one).unwrap(), header("#one\n", false)).unwrap();
    drop(reader);
    assert_eq!(lines.flush(SOON), 0);
    let dropped = lines.dropped();
    assert!(std::fs::read_to_string(&one).unwrap().starts_with("#one\nxxx"));
    // Another format: behind it.
    lines.push(b"old\n".to_vec());
    assert_eq!(lines.flush(SOON), 0);
    lines.head(b"#new\n".to_vec());
    lines.push(b"new\n".to_vec());
    assert_eq!(lines.flush(SOON), 0);
    assert!(std::fs::read_to_string(&one).unwrap().ends_with("x\nold\n#new\nnew\n"));
    // A header that could not be written stands in front of the next line that can.
    lines.retarget(full(), header("#lost\n", false)).unwrap();
    assert_eq!(lines.flush(SOON), 0);
    assert_eq!(lines.dropped(), dropped);
    lines.retarget(open(&two).unwrap(), header("#two\n", true)).unwrap();
    lines.push(b"line\n".to_vec());
    assert_eq!(lines.flush(SOON), 0);
    assert_eq!(std::fs::read_to_string(&two).unwrap(), "#two\nline\n");
    // No header any more.
    lines.retarget(open(&three).unwrap(), Header::default()).unwrap();
    lines.push(b"line\n".to_vec());
    assert_eq!(lines.close(SOON), 0);
    assert_eq!(std::fs::read_to_string(&three).unwrap(), "line\n");
}

#[test]
fn a_new_reader_of_a_pipe_gets_the_header_first() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("pipe");
    assert!(Command::new("mkfifo").arg(&path).status().unwrap().success());
    let reader = File::options().read(true).write(true).open(&path).unwrap();
    let tell: Tell = Box::new(|_| ());
    let lines = Lines::start(
        "test-log",
        open(&path).unwrap(),
        header("#head\n", false),
        Duration::from_millis(10),
        tell,
    )
    .unwrap();
    lines.push(b"first\n".to_vec());
    assert_eq!(lines.flush(SOON), 0);
    drop(reader);
    lines.push(b"lost\n".to_vec());
    assert_eq!(lines.flush(SOON), 0);
    let reader = File::options().read(true).write(true).open(&path).unwrap();
    lines.push(b"next\n".to_vec());
    assert_eq!(lines.close(SOON), 0);
    let read: Vec<_> = BufReader::new(reader).lines().take(4).map(Result::unwrap).collect();
    // The pipe keeps what the first one did not read.
    assert_eq!(read, ["#head", "first", "#head", "next"]);
    assert_eq!(lines.dropped(), 1);
}
