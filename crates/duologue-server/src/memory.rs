//! The process's memory stays its own: it holds keys, and what people said.

use std::io;

use rustix::process::{Resource, Rlimit, setrlimit};

/// Makes sure that a crash leaves no image of the memory behind, and that other programs of the same
/// user cannot look into it (on Linux; elsewhere only the first).
///
/// What has been read before may have been seen before, so this belongs at the start.
pub fn keep_private() -> io::Result<()> {
    let none = Rlimit {
        current: Some(0),
        maximum: Some(0),
    };
    setrlimit(Resource::Core, none)?;
    #[cfg(target_os = "linux")]
    rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use rustix::process::getrlimit;

    use super::*;

    #[test]
    fn afterwards_nothing_can_be_dumped_or_looked_into() {
        keep_private().unwrap();
        assert_eq!(getrlimit(Resource::Core).current, Some(0));
        assert_eq!(getrlimit(Resource::Core).maximum, Some(0));
        #[cfg(target_os = "linux")]
        assert_eq!(
            rustix::process::dumpable_behavior().unwrap(),
            rustix::process::DumpableBehavior::NotDumpable
        );
    }
}
