//! What the process gives away of its memory: nothing.

use duologue_integration::process::ServerProcess;

/// A crash leaves no image of the memory behind, unless an operator wants one. (That nobody may look
/// into a running process is set along with it; the system tells only the process itself.)
#[tokio::test]
async fn a_crash_leaves_no_image_of_the_memory_unless_that_is_allowed() {
    let ours = std::fs::read_to_string("/proc/self/limits").unwrap();
    let ours = core_limit(&ours);
    for (allowed, expected) in [("false", "0 0"), ("true", ours.as_str())] {
        let server = ServerProcess::start_with(&[("DUOLOGUE_SERVER__CORE_DUMPS", allowed)]).await;
        let limit = core_limit(&server.proc_file("limits"));
        assert_eq!(limit, expected, "core_dumps = {allowed}");
        server.kill().await;
    }
}

/// The soft and the hard limit on the size of a core dump.
fn core_limit(limits: &str) -> String {
    let line = limits
        .lines()
        .find_map(|line| line.strip_prefix("Max core file size"))
        .expect("Linux tells");
    line.split_whitespace()
        .take(2)
        .collect::<Vec<_>>()
        .join(" ")
}
