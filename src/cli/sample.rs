//! `fanin config`: a file with every option, what it does and its default.
//!
//! In: the options as clap knows them. Out: TOML. Never here: a word about an option that its help does not
//! have.

use clap::{Arg, ArgAction, Command};

/// The sample. What has a default is a line that can be uncommented; what has none says what it takes.
pub(crate) fn sample(command: &Command) -> String {
    let mut text = String::from(
        "# fanin: every option with its default. Remove a `#` to set one; what is typed on the command line wins.\n\
         # Sizes are bytes or have a unit (\"64KiB\"); times have one (\"250ms\", \"30s\", \"1h\").\n",
    );
    let mut heading = "";
    for arg in command.get_arguments() {
        let Some(long) = arg
            .get_long()
            .filter(|long| !["help", "version", "config"].contains(long))
        else {
            continue;
        };
        let of = arg.get_help_heading().unwrap_or_default();
        if of != heading {
            heading = of;
            text.push_str(&format!("\n# == {heading}\n"));
        }
        text.push_str(&format!("\n# {}\n", help(arg)));
        match value(arg) {
            Some(value) => text.push_str(&format!("#{long} = {value}\n")),
            None => text.push_str(&format!("# {long} = {}\n", takes(arg))),
        }
    }
    text.push_str(LISTENER);
    text
}

/// Instead of `listen`, and with what is one listener's own.
const LISTENER: &str = "
# == Listeners, one table each, behind all else. As many as are needed, instead of `listen`

# [[listener]]
# address = \"tcp://127.0.0.1:6514\"
# framing = \"octet\"
# max-connections = 500
# listener-bytes = \"10MiB\"
# listener-messages = 5000
";

fn help(arg: &Arg) -> String {
    let help = arg.get_help().map(ToString::to_string).unwrap_or_default();
    help.replace('\n', "\n# ")
}

/// The default as TOML.
fn value(arg: &Arg) -> Option<String> {
    if matches!(arg.get_action(), ArgAction::SetTrue) {
        return Some("false".to_owned());
    }
    let values = arg.get_default_values();
    let mut quoted = values.iter().map(|value| {
        let value = value.to_string_lossy();
        match value.parse::<u64>() {
            Ok(number) => number.to_string(),
            Err(_) => format!("{value:?}"),
        }
    });
    match arg.get_action() {
        ArgAction::Append if !values.is_empty() => {
            Some(format!("[{}]", quoted.collect::<Vec<_>>().join(", ")))
        }
        _ => quoted.next(),
    }
}

/// What may stand there: the default, or something like it.
pub(super) fn example(arg: &Arg) -> String {
    if let Some(value) = value(arg) {
        return value;
    }
    if let Some(possible) = arg.get_possible_values().first() {
        return format!("{:?}", possible.get_name());
    }
    match &*takes(arg) {
        "SIZE" => "\"4MiB\"".to_owned(),
        "N" => "1000".to_owned(),
        "TIME" => "\"30s\"".to_owned(),
        _ => "\"/tmp/fanin\"".to_owned(),
    }
}

/// What stands for a value where there is no default.
fn takes(arg: &Arg) -> String {
    let possible: Vec<_> = arg
        .get_possible_values()
        .iter()
        .map(|v| format!("{:?}", v.get_name()))
        .collect();
    if !possible.is_empty() {
        return possible.join(" or ");
    }
    let names = arg.get_value_names().into_iter().flatten();
    names.map(ToString::to_string).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use clap::CommandFactory;

    use super::*;
    use crate::cli::args::{Cli, Command as Sub};
    use crate::cli::given::Given;

    #[test]
    fn the_sample_with_every_default_set_is_what_nothing_set_is() {
        let cli = Cli::command();
        let text = sample(cli.find_subcommand("serve").unwrap());
        let set: String = text
            .lines()
            .map(|line| match line.strip_prefix('#') {
                Some(setting) if !setting.starts_with(' ') => format!("{setting}\n"),
                _ => format!("{line}\n"),
            })
            .collect();
        let file = std::env::temp_dir().join(format!("fanin-sample-{}", std::process::id()));
        std::fs::write(&file, set).unwrap();
        let words = ["fanin", "serve", "--config"].map(OsString::from);
        let with = Given::parse(words.into_iter().chain([file.clone().into()])).unwrap();
        std::fs::remove_file(&file).unwrap();
        let without = Given::parse(["fanin", "serve"].map(OsString::from)).unwrap();
        let (Sub::Serve(with), Sub::Serve(without)) = (with.cli.command, without.cli.command)
        else {
            panic!("not asked for");
        };
        assert_eq!(
            format!("{:?}", with.config()),
            format!("{:?}", without.config())
        );
        assert!(
            text.lines()
                .filter(|line| line.starts_with("#") && !line.starts_with("# "))
                .count()
                > 15
        );
    }
}
