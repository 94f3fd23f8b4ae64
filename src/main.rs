//! The `frontgate` command.

fn main() {
    std::process::exit(frontgate::cli::main());
}
