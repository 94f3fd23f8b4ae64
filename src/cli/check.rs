//! `frontgate check`: is this configuration right?

use std::{
    io::{self, IsTerminal, Write},
    path::PathBuf,
};

use clap::Args;

use crate::config::{self, EXIT_CONFIG, render};

/// Checks the configuration and everything it names, and changes nothing.
///
/// Exit code 0: it is valid. 78: it is not; nothing would be applied.
#[derive(Args, Clone, Debug, Default)]
pub struct CheckArgs {
    /// The configuration file [default: $FRONTGATE_CONFIG, then /etc/frontgate/config.yaml]
    #[arg(long, short, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Let warnings fail it too
    #[arg(long)]
    pub strict: bool,
    /// Findings as JSON on standard output
    #[arg(long, conflicts_with = "print")]
    pub json: bool,
    /// Print the effective configuration of a valid one: presets expanded, defaults filled in, secrets masked
    #[arg(long)]
    pub print: bool,
}

/// Runs the command; the result is the exit code.
pub fn run(args: CheckArgs) -> i32 {
    execute(&args, &mut io::stdout(), &mut io::stderr(), colour())
}

/// Whether findings on standard error may be coloured: on a terminal, and not with `NO_COLOR`.
pub fn colour() -> bool {
    let plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    io::stderr().is_terminal() && !plain
}

fn execute(args: &CheckArgs, out: &mut dyn Write, err: &mut dyn Write, colour: bool) -> i32 {
    let outcome = config::load(&config::path(args.config.as_deref()));
    let findings = &outcome.findings;
    let fails = outcome.site.is_none() || (args.strict && findings.warnings() > 0);
    let written = if args.json {
        writeln!(out, "{:#}", render::json(findings, args.strict))
    } else {
        let text = render::text(findings, colour);
        let summary = render::summary(findings, args.strict);
        writeln!(err, "{text}{summary}").and_then(|()| match &outcome.effective {
            // With errors, what could be understood is not what is meant.
            Some(yaml) if args.print && outcome.site.is_some() => out.write_all(yaml.as_bytes()),
            _ => Ok(()),
        })
    };
    // A reader that went away has read what it wanted; the exit code still counts.
    drop(written);
    if fails { EXIT_CONFIG } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FINE: &str = "listeners: [{ address: \"0.0.0.0:80\" }]\n\
                        farms: { web: { servers: [fe01] } }\n\
                        publish: [{ host: a.contoso.com, farm: web, schemes: [http] }]\n";

    /// Exit code, standard output, standard error.
    fn check(text: &str, set: fn(&mut CheckArgs)) -> (i32, String, String) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.yaml");
        std::fs::write(&path, text).unwrap();
        let mut args = CheckArgs { config: Some(path), ..CheckArgs::default() };
        set(&mut args);
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let code = execute(&args, &mut out, &mut err, false);
        (code, String::from_utf8(out).unwrap(), String::from_utf8(err).unwrap())
    }

    #[test]
    fn a_valid_configuration_exits_0() {
        let (code, out, err) = check(FINE, |_| {});
        assert_eq!((code, out.as_str()), (0, ""));
        assert_eq!(err, "no findings: the configuration is valid\n");
    }

    #[test]
    fn an_error_exits_78() {
        let (code, out, err) = check(&format!("{FINE}bogus: 1\n"), |_| {});
        assert_eq!((code, out.as_str()), (EXIT_CONFIG, ""));
        assert!(err.starts_with("error[E005]: unknown key `bogus`\n"), "{err}");
        assert!(err.ends_with("1 error: nothing was applied\n"), "{err}");
    }

    #[test]
    fn a_warning_exits_78_only_if_strict() {
        let text = FINE.replace("farms: {", "farms: { idle: { servers: [x] },");
        assert_eq!(check(&text, |_| {}).0, 0);
        let (code, _, err) = check(&text, |args| args.strict = true);
        assert_eq!(code, EXIT_CONFIG);
        assert!(err.ends_with("1 warning: refused because of --strict\n"), "{err}");
    }

    #[test]
    fn json_and_print_go_to_standard_output() {
        let (code, out, err) = check("", |args| args.json = true);
        assert_eq!((code, err.as_str()), (EXIT_CONFIG, ""));
        let value: serde_json::Value = serde_json::from_str(&out).unwrap();
        assert_eq!(value["errors"], 3);
        let (_, out, _) = check(FINE, |args| args.print = true);
        assert!(out.contains("connect_timeout: 5s"), "{out}");
        let (code, out, _) = check(&format!("{FINE}bogus: 1\n"), |args| args.print = true);
        assert_eq!((code, out.as_str()), (EXIT_CONFIG, ""));
    }
}
