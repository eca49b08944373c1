//! The holder of a lab as a program of its own, for this crate's tests; `snorkel lab-holder` is the same thing.

fn main() {
    let arguments: Vec<_> = std::env::args_os().skip(1).collect();
    if arguments == [snorkel_lab::HOLDER_ARGUMENT] {
        snorkel_lab::holder_main();
    }
    eprintln!("this program is started by those who call a lab up, with the one argument lab-holder");
    std::process::exit(2);
}
