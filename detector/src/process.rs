//! The end of the process.
#![allow(unsafe_code, reason = "libtorch's destructors can only be left out by ending through libc")]

use std::process::ExitCode;

/// Ends the process of a program with networks at once, after what was printed is out; gives the code back in one without.
///
/// libtorch unregisters its operators one by one when a process ends, which takes a tenth of a second of the processor, also
/// where no network was used. The system takes all of it back anyway. Whatever else is to be done must be done by now.
pub fn leave(code: ExitCode) -> ExitCode {
    #[cfg(feature = "torch")]
    {
        use std::io::Write;
        // Nobody is left to be told that the reader is gone.
        let _ = std::io::stdout().flush();
        let _ = std::io::stderr().flush();
        let number = (0..=u8::MAX).find(|number| ExitCode::from(*number) == code).unwrap_or(1);
        // SAFETY: _exit takes a number and does not return. It runs no code of this process, so nothing can see a state that is
        // half torn down.
        unsafe { libc::_exit(i32::from(number)) }
    }
    #[cfg(not(feature = "torch"))]
    code
}
