# A real Prometheus scrapes weir under traffic: every query of the Grafana dashboard returns data, and alerts fire.
#
#   scripts/lab tests/lab/monitoring.sh
# shellcheck shell=bash

vip=192.0.2.80
client c1 198.51.100.11
for n in 1 2; do
    server s$n fullnat 10.0.0.1$n
    http_server s$n
done
{
    service fullnat tcp $vip:80 rr 10.0.0.11=1 10.0.0.12=1
    service fullnat tcp $vip:81 rr 10.0.0.99=1
} | config "$LAB_DIR/weir.toml"
weir_start "$LAB_DIR/weir.toml"

mkdir "$LAB_DIR/prometheus"
cat >"$LAB_DIR/prometheus/prometheus.yml" <<EOF
global: {scrape_interval: 1s, evaluation_interval: 1s}
rule_files: [$LAB_TOP/config/alerts.yml]
scrape_configs:
  - job_name: weir
    static_configs: [{targets: ["127.0.0.1:9900"]}]
  - job_name: ipvs
    params: {names: [ipvs]}
    static_configs: [{targets: ["127.0.0.1:9900"]}]
EOF
spawn weir prometheus --config.file="$LAB_DIR/prometheus/prometheus.yml" --storage.tsdb.path="$LAB_DIR/prometheus/data" \
    --web.listen-address=127.0.0.1:9090 --log.level=warn
within 30 on weir curl -fsS -o /dev/null http://127.0.0.1:9090/-/ready || fail "no Prometheus"
# Reasons to drop packets, requests to spread, and a real server that is not there.
traffic() {
    get c1 http://$vip/ 10 >/dev/null || true
    on c1 curl -s --max-time 1 -o /dev/null http://$vip:81/ || true
    on c1 curl -s --max-time 1 -o /dev/null http://$vip:9/ || true
}
for _ in {1..8}; do traffic; done
ask() { on weir /usr/bin/python3 "$LAB_TOP/tests/lab/panels.py" http://127.0.0.1:9090 "$@"; }
answered() {
    traffic
    ask "$LAB_TOP/config/grafana/weir.json" >"$LAB_DIR/panels"
}
within 30 answered || {
    cat "$LAB_DIR/panels"
    fail "panels without data"
}
good "each of the dashboard's $(wc -l <"$LAB_DIR/panels") queries returns data"
scraped() { on weir curl -fsS 'http://127.0.0.1:9090/api/v1/targets?state=active' | /usr/bin/python3 -c '
import json, sys
targets = json.load(sys.stdin)["data"]["activeTargets"]
assert len(targets) == 2 and all(target["health"] == "up" for target in targets), targets'; }
check "Prometheus takes what it asked for" scraped
same "… OpenMetrics, whose text has an end" "# EOF" \
    "$(on weir curl -fsS -H 'Accept: application/openmetrics-text;version=1.0.0' http://127.0.0.1:9900/metrics | tail -n 1)"
value() { on weir curl -fsS --data-urlencode "query=$1" http://127.0.0.1:9090/api/v1/query | /usr/bin/python3 -c '
import json, sys
print(*(sample["value"][1] for sample in json.load(sys.stdin)["data"]["result"]))'; }
connections() { [[ $(value 'sum(node_ipvs_connections_total) > 0 and sum(node_ipvs_connections_total) == sum(weir_service_connections_total)' | wc -w) -eq 1 ]]; }
# Scrapes of the two are not of the same instant while there is traffic.
within 10 connections || fail "node_exporter's names have other sums"
good "node_exporter's names have the same sums"
same "a backend by node_exporter's labels" 1 \
    "$(value "node_ipvs_backend_weight{local_address=\"$vip\",local_port=\"80\",remote_address=\"10.0.0.11\",remote_port=\"80\",proto=\"TCP\"}")"
fires() { [[ $(value "ALERTS{alertname=\"$1\",alertstate=\"firing\",port=\"81\"}" | wc -w) -eq 1 ]]; }
within 30 fires WeirServiceUnavailable || fail "no alert for a service without a real server"
good "an alert fires for a service without a real server"
same "one service alone" "81" "$(on weir curl -fsS "http://127.0.0.1:9900/metrics?service=tcp:$vip:81" | grep -v '^#' | grep -o ',port="[0-9]*"' | sort -u | tr -dc 0-9)"
same "a service that is not there" 404 "$(on weir curl -s -o /dev/null -w '%{http_code}' 'http://127.0.0.1:9900/metrics?service=none')"
same "names of no program" 400 "$(on weir curl -s -o /dev/null -w '%{http_code}' 'http://127.0.0.1:9900/metrics?names=none')"
settled
