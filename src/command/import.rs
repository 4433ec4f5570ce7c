//! `weir import ipvs|keepalived FILE`: another program's configuration as weir's, on stdout; on stderr what of it is not carried over.

use super::output::{self, diagnose, tell};
use crate::config;
use crate::import::{self, Imported, Options};
use clap::ValueEnum;
use ipnet::IpNet;
use std::io::{self, Read, Write};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Bytes of a file, at most.
const LONGEST: u64 = 64 << 20;

/// Write a configuration file made of one of keepalived, or of what ipvsadm-save writes
///
/// Every line that is not carried over is told on stderr with its number.
#[derive(Debug, clap::Args)]
pub struct Import {
    /// Whose file it is: ipvs (`ipvsadm-save -n`, also DPVS's), or keepalived
    #[arg(value_name = "ipvs|keepalived")]
    from: Source,
    /// The file; `-`: stdin
    file: PathBuf,
    /// What services become that IPVS serves by NAT: with fullnat real servers need no route back through weir
    #[arg(long, value_name = "MODE", default_value = "nat")]
    nat_as: NatAs,
    /// The addresses that fullnat's packets come from, such as 10.0.0.200-10.0.0.207
    #[arg(long, value_name = "ADDRESSES", value_delimiter = ',')]
    local_pool: Vec<String>,
    /// The device of weir's port
    #[arg(long, value_name = "DEVICE")]
    device: Option<String>,
    /// An address of that port, such as 10.0.0.1/24
    #[arg(long, value_name = "ADDRESS/BITS")]
    address: Vec<IpNet>,
    /// Write services and what belongs to them only, for `include`
    #[arg(long)]
    services_only: bool,
    /// Write services that differ only in the port as one of a range (from three on), and in the protocol as one of tcp+udp
    #[arg(long)]
    merge: bool,
    /// End with 1 if anything was not carried over
    #[arg(long)]
    strict: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Source {
    Ipvs,
    Keepalived,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum NatAs {
    Nat,
    Fullnat,
}

impl Import {
    /// 0; 1 if there is nothing to import, or if with `--strict` anything is missing.
    pub fn run(&self) -> ExitCode {
        if self.nat_as == NatAs::Fullnat && self.local_pool.is_empty() {
            return super::fail("--nat-as fullnat takes --local-pool ADDRESSES");
        }
        let options = Options {
            fullnat: (!self.local_pool.is_empty()).then(|| self.local_pool.clone()),
            nat_is_fullnat: self.nat_as == NatAs::Fullnat,
            device: self.device.clone(),
            addresses: self.address.clone(),
            own: own(),
            services_only: self.services_only,
            merge: self.merge,
        };
        let text = match read(&self.file) {
            Ok(text) => text,
            Err(why) => return super::fail(format!("{}: {why}", self.file.display())),
        };
        let name = self.file.display().to_string();
        let imported = match self.from {
            Source::Ipvs => import::ipvs(&text, &name, &options),
            Source::Keepalived => import::keepalived(&text, &name, &included, &options),
        };
        let (remarks, failed) = match &imported {
            Ok(Imported { remarks, .. }) => (remarks, None),
            Err(failed) => (&failed.remarks, Some(&failed.why)),
        };
        for remark in remarks {
            let kind = if remark.is_lost {
                "warning: not carried over: "
            } else {
                "note: "
            };
            tell(format_args!("{kind}{remark}"));
        }
        if let Some(why) = failed {
            return super::fail(why);
        }
        let Ok(Imported { text, remarks }) = imported else {
            return ExitCode::FAILURE;
        };
        let mut out = output::out();
        if let Err(why) = out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
            return output::stop(&why);
        }
        if !self.services_only
            && let Err(wrong) = config::parse(&text, "the imported file", &super::context())
        {
            diagnose(&wrong);
            return ExitCode::FAILURE;
        }
        match self.strict && remarks.iter().any(|it| it.is_lost) {
            true => ExitCode::FAILURE,
            false => ExitCode::SUCCESS,
        }
    }
}

/// The addresses of this machine, on which IPVS runs perhaps.
fn own() -> Vec<IpAddr> {
    let interfaces = if_addrs::get_if_addrs().unwrap_or_default();
    interfaces.into_iter().map(|it| it.ip()).collect()
}

fn read(file: &Path) -> io::Result<String> {
    let mut bytes = Vec::new();
    match file.as_os_str() == "-" {
        true => {
            io::stdin().lock().take(LONGEST).read_to_end(&mut bytes)?;
        }
        // Neither waits for a FIFO's writer nor reads a device without end.
        false => bytes = config::read_file(file, LONGEST)?.0,
    }
    // Comments in any script, in any encoding.
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// The files that a file of keepalived includes: a name, or a pattern, from the folder of the file that names it.
fn included(by: &str, what: &str) -> Result<Vec<(String, String)>, String> {
    let folder = Path::new(by).parent().unwrap_or(Path::new(""));
    let pattern = folder.join(what);
    let pattern = pattern.to_str().ok_or("its name is no text")?;
    let found = glob::glob(pattern).map_err(|why| why.to_string())?;
    let files = found.map(|path| {
        let path = path.map_err(|why| why.to_string())?;
        let text = read(&path).map_err(|why| format!("{}: {why}", path.display()))?;
        Ok((path.display().to_string(), text))
    });
    files.collect()
}
