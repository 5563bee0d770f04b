//! `fanin`: the program. Its rooms are in `cli`.

mod cli;

fn main() -> ! {
    std::process::exit(cli::main())
}
