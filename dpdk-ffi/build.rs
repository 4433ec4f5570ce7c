//! Finds libdpdk by pkg-config, makes the bindings of `wrapper.h` by bindgen, and compiles what
//! bindgen writes for the static inlines.

use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What weir calls. The drivers link what they need themselves: the EAL loads them at run time.
const LIBRARIES: [&str; 4] = ["rte_eal", "rte_ethdev", "rte_mbuf", "rte_mempool"];

const FUNCTIONS: [&str; 9] = [
    "rte_eal_(init|get_runtime_dir|remote_launch|wait_lcore)",
    "rte_dev_(probe|remove|event_(callback_register|monitor_start)|hotplug_handle_enable)",
    "rte_(rdtsc|get_tsc_hz|strerror|openlog_stream|log_cur_msg_loglevel)",
    "rte_lcore_to_socket_id",
    "rte_eth_(rx|tx)_(burst|queue_setup)",
    "rte_eth_(dev_(is_valid_port|configure|start|stop|close|info_get|get_port_by_name|socket_id|adjust_nb_rx_tx_desc|set_mtu|get_mtu|default_mac_addr_set)|macaddr_get|promiscuous_enable|allmulticast_enable|stats_get|dev_rss_(reta_(update|query)|hash_conf_get)|dev_vlan_filter|dev_rx_intr_(enable|disable|ctl_q_get_fd))",
    "rte_pktmbuf_(pool_create|alloc|free|free_bulk)|rte_mempool_avail_count",
    // What tests hold weir's own hash against.
    "rte_softrss",
    "weir_.*",
];

const NAMES: [&str; 2] = [
    "WEIR_.*",
    "RTE_(PKTMBUF_HEADROOM|MAX_ETHPORTS|MAX_LCORE|LOG_.*|MEMPOOL_CACHE_MAX_SIZE)",
];

/// C's flexible and packed corners that Rust cannot lay out; weir reads none of them.
const OPAQUE: [&str; 5] = [
    "rte_mbuf",
    "rte_mempool",
    "rte_arp_ipv4",
    "rte_l2tpv2_combined_msg_hdr",
    "rte_gtp_psc_generic_hdr",
];

fn main() {
    println!("cargo:rerun-if-changed=wrapper.h");
    if let Err(problem) = build() {
        for line in problem.lines().filter(|line| !line.trim().is_empty()) {
            println!("cargo::error={line}");
        }
        std::process::exit(1);
    }
}

fn build() -> Result<(), String> {
    if Command::new("pkg-config")
        .arg("--version")
        .output()
        .is_err()
    {
        return Err(missing("pkg-config", "it does not run"));
    }
    let dpdk = pkg_config::Config::new()
        .atleast_version("22.11")
        .cargo_metadata(false)
        .probe("libdpdk")
        .map_err(|error| missing("libdpdk-dev", &error.to_string()))?;
    let flags = compiler_flags()?;

    for path in &dpdk.link_paths {
        println!("cargo:rustc-link-search=native={}", path.display());
    }
    let out = PathBuf::from(std::env::var_os("OUT_DIR").ok_or("OUT_DIR is not set")?);
    let wrappers = out.join("static_inlines.c");
    bindings(&flags, &wrappers)?
        .write_to_file(out.join("bindings.rs"))
        .map_err(|error| format!("writing the bindings: {error}"))?;
    compile(&flags, &wrappers)?;
    for library in LIBRARIES {
        println!("cargo:rustc-link-lib=dylib={library}");
    }
    Ok(())
}

fn missing(package: &str, why: &str) -> String {
    format!("weir needs the Debian package {package}: apt-get install {package}\n{why}")
}

/// DPDK's `-I`, `-march` and `-include`, which the pkg-config crate leaves out in part.
fn compiler_flags() -> Result<Vec<String>, String> {
    let output = Command::new("pkg-config")
        .args(["--cflags", "libdpdk"])
        .output()
        .map_err(|error| missing("pkg-config", &error.to_string()))?;
    Ok(String::from_utf8_lossy(&output.stdout)
        .split_whitespace()
        .map(str::to_owned)
        .collect())
}

fn bindings(flags: &[String], wrappers: &Path) -> Result<bindgen::Bindings, String> {
    let mut builder = bindgen::Builder::default()
        .header("wrapper.h")
        .clang_args(flags)
        .wrap_static_fns(true)
        .wrap_static_fns_path(wrappers)
        .rust_edition(bindgen::RustEdition::Edition2024)
        .default_enum_style(bindgen::EnumVariation::Consts)
        .prepend_enum_name(false)
        .generate_comments(false)
        .layout_tests(false)
        .merge_extern_blocks(true);
    for function in FUNCTIONS {
        builder = builder.allowlist_function(function);
    }
    for name in NAMES {
        builder = builder.allowlist_var(name);
    }
    builder = builder.allowlist_type("weir_mbuf_layout|rte_dev_event_type");
    for name in OPAQUE {
        builder = builder.opaque_type(name);
    }
    // bindgen panics where it cannot load libclang, and says why: only the package is missing there.
    let generated = std::panic::catch_unwind(AssertUnwindSafe(move || builder.generate()));
    match generated {
        Ok(Err(error)) if error.to_string().contains("file not found") => {
            Err(missing("clang", &error.to_string()))
        }
        Ok(generated) => generated.map_err(|error| error.to_string()),
        Err(_) => Err(missing(
            "libclang-dev",
            "bindgen finds no libclang (see its message above)",
        )),
    }
}

fn compile(flags: &[String], wrappers: &Path) -> Result<(), String> {
    let mut build = cc::Build::new();
    build
        .file(wrappers)
        .include(".")
        .opt_level(3)
        .warnings(false);
    for flag in flags {
        build.flag(flag);
    }
    build
        .try_compile("weir_dpdk_inlines")
        .map_err(|error| missing("gcc", &error.to_string()))
}
