//! What a client wants to hear, and to say.

use api::status::Status;

use crate::http::query::Query;

/// Which channels the client wants.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Channels {
    /// The command's input.
    pub stdin: bool,
    /// Its output.
    pub stdout: bool,
    /// Its complaints.
    pub stderr: bool,
    /// Whether all of them are a terminal.
    pub tty: bool,
}

impl Channels {
    /// Those that a query asks for.
    ///
    /// # Errors
    /// 400 when there are none.
    pub fn of(query: &Query) -> Result<Self, Status> {
        let tty = query.flag("tty");
        let channels = Self {
            stdin: query.flag("stdin"),
            stdout: query.flag("stdout"),
            // With a terminal there is only one output.
            stderr: query.flag("stderr") && !tty,
            tty,
        };
        if channels.stdin || channels.stdout || channels.stderr {
            return Ok(channels);
        }
        Err(Status::bad_request(
            "you must specify at least 1 of stdin, stdout, stderr",
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminal_has_one_output() {
        let channels = Channels::of(&Query::parse("stdin=true&stdout=true&stderr=true&tty=true")).unwrap();
        assert_eq!(
            channels,
            Channels {
                stdin: true,
                stdout: true,
                stderr: false,
                tty: true
            }
        );
        assert_eq!(Channels::of(&Query::parse("command=ls")).unwrap_err().code, 400);
    }
}
