//! `micro check FOLDER RECORD` counts the instructions of every operation and compares them with the record;
//! `micro record FOLDER RECORD` writes the record instead. Started by benches/micro/check. FOLDER takes
//! callgrind's files. `micro perform NAME` is what runs under callgrind.
//!
//! Exit codes: 0 as it should be, 1 dearer than recorded, 2 could not be measured.

use std::error::Error;
use std::fs;
use std::path::Path;
use std::process::ExitCode;

use micro::callgrind::{measure, perform};
use micro::counts::{Counts, Recorded, compare, table};
use micro::{OPERATIONS, Operation};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let result = match arguments.as_slice() {
        ["perform", name] => find(name).map(|operation| {
            perform(operation);
            ExitCode::SUCCESS
        }),
        ["check", folder, record] => check(Path::new(folder), Path::new(record)),
        ["record", folder, record] => write_record(Path::new(folder), Path::new(record)),
        _ => Err("expected perform NAME, check FOLDER RECORD or record FOLDER RECORD".into()),
    };
    result.unwrap_or_else(|error| {
        eprintln!("micro: {error}");
        ExitCode::from(2)
    })
}

fn find(name: &str) -> Result<&'static Operation, Box<dyn Error>> {
    let found = OPERATIONS.iter().find(|operation| operation.name == name);
    found.ok_or_else(|| format!("there is no operation {name}").into())
}

fn check(folder: &Path, record: &Path) -> Result<ExitCode, Box<dyn Error>> {
    let text = fs::read_to_string(record).map_err(|error| format!("{}: {error}", record.display()))?;
    let recorded = Recorded::parse(&text).map_err(|error| format!("{}: {error}", record.display()))?;
    let measured = count(folder)?;
    if recorded.architecture != std::env::consts::ARCH {
        let here = std::env::consts::ARCH;
        println!("nothing is compared: the record is of {}, this is {here}", recorded.architecture);
        print!("{}", Recorded { architecture: here.to_owned(), counts: measured }.to_text());
        return Ok(ExitCode::SUCCESS);
    }
    let lines = compare(&recorded.counts, &measured);
    print!("{}", table(&lines));
    let failures = lines.iter().filter(|line| line.change.is_failure()).count();
    if failures == 0 {
        return Ok(ExitCode::SUCCESS);
    }
    eprintln!(
        "micro: {failures} of {} fail. Make them cheaper again, or say in the commit why they cost more and run \
         benches/micro/check --record.",
        lines.len()
    );
    Ok(ExitCode::FAILURE)
}

fn write_record(folder: &Path, record: &Path) -> Result<ExitCode, Box<dyn Error>> {
    let recorded = Recorded { architecture: std::env::consts::ARCH.to_owned(), counts: count(folder)? };
    fs::write(record, recorded.to_text()).map_err(|error| format!("{}: {error}", record.display()))?;
    println!("{} counts recorded in {}", recorded.counts.len(), record.display());
    Ok(ExitCode::SUCCESS)
}

fn count(folder: &Path) -> Result<Counts, Box<dyn Error>> {
    Ok(measure(&std::env::current_exe()?, folder)?)
}
