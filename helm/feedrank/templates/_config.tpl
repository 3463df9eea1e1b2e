{{/* What the chart knows better than config/*.yaml: paths, addresses, images. */}}
{{- define "feedrank.derivedConfig" -}}
serving:
  snapshot: /data/online/current
  reload:
    cache_directory: /tmp/model-cache
  log:
    directory: /data/predictions
    spool_directory: /spool
  {{- if .Values.predictor.token.existingSecret }}
  token_file: /etc/feedrank-token/token
  {{- end }}
data:
  ingest:
    erased_users: /data/erased-users.json
model:
  registry:
    tracking_uri: {{ include "feedrank.mlflowUri" . }}
promotion:
  state_directory: /data/promotion
  target:
    directory: /data/served
    url: {{ include "feedrank.predictorUrl" . }}
    inference_service: {{ .Release.Name }}
    storage_uri: {{ .Values.predictor.modelUri | quote }}
monitoring:
  performance:
    metrics_url: {{ include "feedrank.predictorUrl" . }}/metrics
  {{- if eq .Values.retraining.runner "job" }}
  retraining:
    cron_job: {{ .Release.Name }}-retraining
  {{- end }}
pipelines:
  {{- if eq .Values.retraining.runner "kfp" }}
  host: {{ .Values.pipelines.host }}
  {{- end }}
  namespace: {{ .Values.pipelines.namespace | quote }}
  release:
    name: {{ .Release.Name | quote }}
    namespace: {{ .Release.Namespace | quote }}
  {{- if eq .Values.retraining.runner "job" }}
  schedules: # the CronJobs do that work, and KFP's tasks may neither promote nor reach MLflow and the predictor
    etl_and_feature_engineering: ""
    monitoring_and_drift_detection: ""
    automated_retraining: ""
  {{- end }}
  service_account: {{ .Values.pipelines.runnerServiceAccount }}
  config_map: {{ .Release.Name }}-jobs
  volume:
    claim: {{ include "feedrank.dataClaim" . }}
  secrets: {{ mustMerge (include "feedrank.tokenSecrets" . | fromYaml) (include "feedrank.s3Secrets" . | fromYaml) (include "feedrank.alertSecrets" . | fromYaml) | toJson }}
  environment: {{ include "feedrank.s3Settings" . | fromYaml | toJson }}
  images:
    {{- range $stage := list "data" "train" "serve" "monitor" }}
    {{ $stage }}: {{ include "feedrank.image" (list $ $stage) }}
    {{- end }}
{{- end }}

{{- define "feedrank.configFileName" -}}
{{ eq . "feed" | ternary "feed.yaml" (printf "%s_config.yaml" .) }}
{{- end }}

{{/* One file of the configuration: (list $ NAME). Defaults, then what the chart derives, then `config` of the values. */}}
{{- define "feedrank.configFile" -}}
{{- $root := index . 0 -}}
{{- $name := index . 1 -}}
{{- $defaults := $root.Files.Get (printf "config/%s" (include "feedrank.configFileName" $name)) | fromYaml -}}
{{- $derived := get (include "feedrank.derivedConfig" $root | fromYaml) $name | default dict -}}
{{- $given := get $root.Values.config $name | default dict | deepCopy -}}
{{- mustMergeOverwrite $defaults $derived $given | toYaml -}}
{{- end }}

{{/* Long enough for a change of the served model and for its undoing, at the largest number of replicas. */}}
{{- define "feedrank.changeSeconds" -}}
{{- $target := (include "feedrank.configFile" (list . "promotion") | fromYaml).target -}}
{{- $replicas := .Values.predictor.replicas -}}
{{- with .Values.predictor.autoscaling }}{{ if .enabled }}{{ $replicas = .maxReplicas }}{{ end }}{{ end -}}
{{- mulf 2 (addf $target.deadline_seconds (mulf $replicas $target.pod_deadline_seconds)) | ceil | add 900 -}}
{{- end }}
