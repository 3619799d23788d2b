{{/* What both charts share. The agent chart's copy is written by hack/generate from the hub chart's. */}}

{{- define "fallow.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
app.kubernetes.io/name: fallow
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/part-of: fallow
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* Takes a program's name. Not the release's: a cluster has one hub and one agent, see docs/decisions/040. */}}
{{- define "fallow.selector" -}}
app.kubernetes.io/name: fallow
app.kubernetes.io/component: {{ . }}
{{- end }}

{{/* Without the chart's version, which would restart every pod for a change elsewhere; takes {root, name}. */}}
{{- define "fallow.podLabels" -}}
{{ include "fallow.selector" .name }}
app.kubernetes.io/part-of: fallow
{{- with .root.Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "fallow.image" -}}
{{- $image := .Values.image -}}
{{- if $image.digest -}}
{{ printf "%s@%s" $image.repository $image.digest }}
{{- else -}}
{{ printf "%s:%s" $image.repository ($image.tag | default .Chart.AppVersion) }}
{{- end -}}
{{- end }}

{{- define "fallow.podSecurity" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
fsGroup: 65532
fsGroupChangePolicy: OnRootMismatch
seccompProfile: {type: RuntimeDefault}
{{- end }}

{{- define "fallow.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end }}

{{/* Flattens a tree of settings to environment variables; takes {prefix, tree}. Numbers as JSON: 1e+06 is no integer. */}}
{{- define "fallow.settings" -}}
{{- $prefix := .prefix -}}
{{- range $name, $value := .tree }}
{{- $variable := printf "%s%s" $prefix (snakecase $name | upper) }}
{{- if kindIs "map" $value }}
{{- include "fallow.settings" (dict "prefix" (printf "%s__" $variable) "tree" $value) }}
{{- else }}
- name: {{ $variable }}
  value: {{ if kindIs "slice" $value }}{{ join "," $value | quote }}{{ else if kindIs "string" $value }}{{ $value | quote }}{{ else }}{{ toJson $value | quote }}{{ end }}
{{- end }}
{{- end }}
{{- end }}

{{/* What every program of a hub is told. */}}
{{- define "fallow.environment" -}}
{{- $payments := .Values.payments -}}
- name: FALLOW_HUB_ID
  value: {{ required "hubId is required: make one with: echo 0x$(openssl rand -hex 32)" .Values.hubId | quote }}
- name: FALLOW_SYSTEM_NAMESPACE
  value: {{ .Release.Namespace }}
- name: FALLOW_METRICS_ADDRESS
  value: {{ printf "0.0.0.0:%v" .Values.metrics.port | quote }}
- name: FALLOW_PAYMENTS__MODE
  value: {{ $payments.mode }}
- name: FALLOW_PAYMENTS__TOKEN_SYMBOL
  value: {{ $payments.tokenSymbol | quote }}
- name: FALLOW_PAYMENTS__TOKEN_DECIMALS
  value: {{ $payments.tokenDecimals | quote }}
{{- if eq $payments.mode "chain" }}
- name: FALLOW_PAYMENTS__CHAIN_ID
  value: {{ $payments.chainId | default "" | required "payments.chainId is required in chain mode" | toJson | quote }}
- name: FALLOW_PAYMENTS__ESCROW
  value: {{ $payments.escrow | required "payments.escrow is required in chain mode" | quote }}
- name: FALLOW_PAYMENTS__TOKEN
  value: {{ $payments.token | required "payments.token is required in chain mode" | quote }}
{{- else if or $payments.escrow $payments.token $payments.chainId }}
{{- fail "payments.mode is ledger, but chainId, escrow or token is set: set payments.mode=chain, or unset them" }}
{{- end }}
{{- end }}

{{/* Takes {root, liveness}: where the liveness probe asks. */}}
{{- define "fallow.probes" -}}
startupProbe:
  httpGet: {path: /metrics, port: metrics}
  periodSeconds: 2
  failureThreshold: 60
livenessProbe:
  httpGet: {path: {{ .liveness }}, port: metrics}
  periodSeconds: 10
  timeoutSeconds: 5
  failureThreshold: 6
readinessProbe:
  httpGet: {path: /healthz, port: metrics}
  periodSeconds: 5
  timeoutSeconds: 5
{{- end }}

{{/* Where a program's pods run; takes {name, values}. */}}
{{- define "fallow.placing" -}}
{{- with .values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with .values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .values.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
topologySpreadConstraints:
{{- if .values.topologySpreadConstraints }}
  {{- toYaml .values.topologySpreadConstraints | nindent 2 }}
{{- else }}
{{- range list "kubernetes.io/hostname" "topology.kubernetes.io/zone" }}
  - maxSkew: 1
    topologyKey: {{ . }}
    whenUnsatisfiable: ScheduleAnyway
    labelSelector:
      matchLabels:
        {{- include "fallow.selector" $.name | nindent 8 }}
{{- end }}
{{- end }}
{{- end }}

{{/* The objects around a Deployment: Service for scrapers, budget, network; takes {root, name, egressPorts}. */}}
{{- define "fallow.surroundings" -}}
{{- $root := .root -}}
apiVersion: v1
kind: Service
metadata:
  name: fallow-{{ .name }}-metrics
  namespace: {{ .namespace | default $root.Release.Namespace }}
  labels:
    {{- include "fallow.labels" $root | nindent 4 }}
    app.kubernetes.io/component: {{ .name }}
spec:
  clusterIP: None
  selector:
    {{- include "fallow.selector" .name | nindent 4 }}
  ports:
    - {name: metrics, port: {{ $root.Values.metrics.port }}, targetPort: metrics}
{{- if and $root.Values.podDisruptionBudget.enabled (not .daemon) }}
---
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata:
  name: fallow-{{ .name }}
  namespace: {{ $root.Release.Namespace }}
  labels:
    {{- include "fallow.labels" $root | nindent 4 }}
spec:
  # Not minAvailable: with one replica that would block every drain, and another takes over from the API server's state.
  maxUnavailable: 1
  unhealthyPodEvictionPolicy: AlwaysAllow
  selector:
    matchLabels:
      {{- include "fallow.selector" .name | nindent 6 }}
{{- end }}
{{- if $root.Values.networkPolicy.enabled }}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata:
  name: fallow-{{ .name }}
  namespace: {{ .namespace | default $root.Release.Namespace }}
  labels:
    {{- include "fallow.labels" $root | nindent 4 }}
spec:
  podSelector:
    matchLabels:
      {{- include "fallow.selector" .name | nindent 6 }}
  policyTypes: [Ingress, Egress]
  ingress:
    - ports: [{protocol: TCP, port: metrics}]
      {{- with $root.Values.networkPolicy.metricsFrom }}
      from:
        {{- toYaml . | nindent 8 }}
      {{- end }}
  egress:
    - ports: [{protocol: UDP, port: 53}, {protocol: TCP, port: 53}]
    # By port, not by address: an API server's address is not knowable here.
    - ports:
      {{- range .egressPorts | uniq }}
        - {protocol: TCP, port: {{ . }}}
      {{- end }}
{{- end }}
{{- if $root.Values.metrics.serviceMonitor.enabled }}
---
apiVersion: monitoring.coreos.com/v1
kind: ServiceMonitor
metadata:
  name: fallow-{{ .name }}
  namespace: {{ .namespace | default $root.Release.Namespace }}
  labels:
    {{- include "fallow.labels" $root | nindent 4 }}
    {{- with $root.Values.metrics.serviceMonitor.labels }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
spec:
  selector:
    matchLabels:
      app.kubernetes.io/part-of: fallow
      app.kubernetes.io/component: {{ .name }}
  endpoints:
    - port: metrics
      interval: {{ $root.Values.metrics.serviceMonitor.interval }}
{{- end }}
{{- end }}

{{/* Wraps the generated CRDs of files/crds. */}}
{{- define "fallow.crds" -}}
{{- $root := . -}}
{{- range $path, $bytes := .Files.Glob "files/crds/*.yaml" }}
{{- $crd := $bytes | toString | fromYaml }}
{{- $_ := set $crd.metadata "labels" (merge (include "fallow.labels" $root | fromYaml) $crd.metadata.labels) }}
{{- if $root.Values.crds.keep }}
{{- $_ := set $crd.metadata "annotations" (merge (dict "helm.sh/resource-policy" "keep") ($crd.metadata.annotations | default dict)) }}
{{- end }}
---
{{ toYaml $crd }}
{{- end }}
{{- end }}
