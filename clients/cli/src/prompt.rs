//! Questions on the terminal.

use std::io::{self, IsTerminal as _, Write as _};

use anyhow::Context as _;

use crate::failure::{Kind, failure};

/// Prompts on a terminal, or reads a line from the standard input.
pub(crate) fn prompt(what: &str, secret: bool) -> anyhow::Result<String> {
    let answer = if secret && io::stdin().is_terminal() {
        rpassword::prompt_password(format!("{what}: "))
            .context("cannot read the password from the terminal")?
    } else {
        if io::stdin().is_terminal() {
            write_prompt(what);
        }
        read_line()?
    };
    if answer.is_empty() {
        return Err(failure(
            Kind::Usage,
            format!("nothing was entered for \"{what}\"; repeat the command"),
        ));
    }
    Ok(answer)
}

/// Asks for a word before something is lost for good. Another answer, or none, is an error. The question is
/// shown without a terminal too, so that the person who answers knows what is lost.
pub(crate) fn confirm(question: &str, word: &str) -> anyhow::Result<()> {
    write_prompt(&format!("{question}\nType \"{word}\" to go on"));
    let answer = read_line()?;
    if !io::stdin().is_terminal() {
        // The answer did not end the line of the question.
        let _ = writeln!(io::stderr());
    }
    if answer.trim() == word {
        return Ok(());
    }
    let message = if answer.is_empty() {
        "nothing was changed, because nobody confirmed it; add --yes to go on without a question".to_owned()
    } else {
        format!("nothing was changed, because the answer was not \"{word}\"")
    };
    Err(failure(Kind::Failed, message))
}

fn read_line() -> anyhow::Result<String> {
    let mut line = String::new();
    io::stdin()
        .read_line(&mut line)
        .context("cannot read the standard input")?;
    Ok(line.trim_end_matches(['\r', '\n']).to_owned())
}

fn write_prompt(what: &str) {
    let _ = write!(io::stderr(), "{what}: ");
}
