//! A command that shows what it was given and does what its arguments say.
//!
//! Built twice: as a core module with `_start` and as a `wasi:cli` component.

use early_heap as _;
use std::io::{Read, Write};

const HELP: &str = "hello-cli: prints its arguments and environment, then obeys its arguments in order:
  --read FILE        print a file
  --write FILE TEXT  write a file
  --stdin            copy standard input to standard output
  --stderr TEXT      print to standard error
  --sleep MS         sleep so many milliseconds
  --spin             compute for ever
  --alloc MIB        take and touch so much memory
  --recurse          call itself until the stack is used up
  --panic            end by a panic
  --exit CODE        end with this code
";

fn main() {
    let args: Vec<String> = std::env::args().collect();
    println!("args: {}", args.join(" "));
    let mut env: Vec<(String, String)> = std::env::vars().collect();
    env.sort();
    for (name, value) in env {
        println!("env: {name}={value}");
    }
    let mut rest = args.into_iter().skip(1);
    while let Some(word) = rest.next() {
        obey(&word, &mut rest);
    }
}

fn obey(word: &str, rest: &mut impl Iterator<Item = String>) {
    let mut next = || {
        rest.next()
            .unwrap_or_else(|| fail(&format!("{word} needs an argument")))
    };
    match word {
        "--read" => {
            let file = next();
            match std::fs::read_to_string(&file) {
                Ok(text) => println!("file {file}: {}", text.trim_end()),
                Err(error) => fail(&format!("cannot read {file}: {error}")),
            }
        }
        "--write" => {
            let (file, text) = (next(), next());
            if let Err(error) = std::fs::write(&file, text) {
                fail(&format!("cannot write {file}: {error}"));
            }
        }
        "--stdin" => copy_stdin(),
        "--stderr" => eprintln!("{}", next()),
        "--sleep" => std::thread::sleep(std::time::Duration::from_millis(number(&next()))),
        "--spin" => spin(),
        "--alloc" => {
            let block = vec![1u8; (number(&next()) << 20) as usize];
            println!("allocated {} MiB", std::hint::black_box(&block).len() >> 20);
        }
        "--recurse" => println!("{}", recurse(1)),
        "--panic" => panic!("asked to panic"),
        "--exit" => exit(number(&next()) as u8),
        "--help" => print!("{HELP}"),
        _ => {}
    }
}

fn copy_stdin() {
    let mut buffer = [0u8; 4096];
    while let Ok(count) = std::io::stdin().read(&mut buffer) {
        if count == 0 || std::io::stdout().write_all(&buffer[..count]).is_err() {
            break;
        }
    }
    let _ = std::io::stdout().flush();
}

fn spin() {
    let mut count = 0u64;
    loop {
        count = std::hint::black_box(count.wrapping_add(1));
    }
}

#[allow(unconditional_recursion)]
fn recurse(depth: u64) -> u64 {
    let block = std::hint::black_box([depth; 32]);
    recurse(depth + 1) + block[0]
}

fn number(text: &str) -> u64 {
    text.parse()
        .unwrap_or_else(|_| fail(&format!("not a number: {text}")))
}

/// Ends the program with a code.
#[cfg(not(feature = "component"))]
fn exit(code: u8) -> ! {
    std::process::exit(code.into())
}

/// Ends the program with a code.
#[cfg(feature = "component")]
fn exit(code: u8) -> ! {
    let _ = std::io::stdout().flush();
    wasip2::cli::exit::exit_with_code(code);
    unreachable!()
}

fn fail(text: &str) -> ! {
    eprintln!("hello-cli: {text}");
    exit(2)
}
