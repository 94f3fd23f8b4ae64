//! The `frontgate` command.

/// A request takes and gives back some hundred pieces of memory, BoringSSL's among them; with the C
/// library's allocator that is a tenth of what it costs (docs/performance.md). Elsewhere the size
/// of a page is not known when this is built, and jemalloc has to know it.
#[cfg(target_arch = "x86_64")]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() {
    std::process::exit(frontgate::cli::main());
}
