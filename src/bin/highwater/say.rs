//! Prints what somebody reads, as long as somebody does. `println!` panics when the reader has
//! gone away (`highwater .. | head -1`); here that ends the program, as it ends other commands.

use std::fmt::Arguments;
use std::io::{ErrorKind, Write, stderr, stdout};
use std::process::exit;

/// What a shell reports of a command that a closed pipe has ended: 128 and the signal's number.
const CLOSED_PIPE: i32 = 128 + 13;

/// Prints to standard output as `print!` does.
macro_rules! say {
    ($($text:tt)*) => {
        $crate::say::to_stdout(format_args!($($text)*))
    };
}

/// Prints a line to standard output as `println!` does.
macro_rules! sayln {
    () => {
        $crate::say::to_stdout(format_args!("\n"))
    };
    ($($text:tt)*) => {
        $crate::say::to_stdout(format_args!("{}\n", format_args!($($text)*)))
    };
}

/// Prints a line to standard error as `eprintln!` does. That nobody reads it changes nothing.
macro_rules! complain {
    ($($text:tt)*) => {
        $crate::say::to_stderr(format_args!("{}\n", format_args!($($text)*)))
    };
}

pub(crate) use {complain, say, sayln};

pub fn to_stdout(text: Arguments<'_>) {
    match stdout().lock().write_fmt(text) {
        Ok(()) => {}
        Err(error) if error.kind() == ErrorKind::BrokenPipe => exit(CLOSED_PIPE),
        Err(error) => {
            complain!("highwater: cannot print: {error}");
            exit(1);
        }
    }
}

pub fn to_stderr(text: Arguments<'_>) {
    // There is nobody left to tell.
    let _ = stderr().lock().write_fmt(text);
}
