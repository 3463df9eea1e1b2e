{{/* Labels of an object and its pods: (list $ COMPONENT). Without versions, which would restart unchanged pods. */}}
{{- define "feedrank.labels" -}}
{{ include "feedrank.selector" . }}
app.kubernetes.io/managed-by: {{ (index . 0).Release.Service }}
{{- end }}

{{- define "feedrank.selector" -}}
app.kubernetes.io/name: feedrank
app.kubernetes.io/instance: {{ (index . 0).Release.Name }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end }}

{{/* The image of a stage: (list $ STAGE). */}}
{{- define "feedrank.image" -}}
{{- $images := (index . 0).Values.images -}}
{{- $digest := get $images.digests (index . 1) -}}
{{- with $images.registry }}{{ trimSuffix "/" . }}/{{ end }}feedrank-{{ index . 1 }}
{{- if $digest }}@{{ $digest }}{{ else }}:{{ $images.tag }}{{ end }}
{{- end }}

{{/* Names of claims and addresses of services. */}}
{{- define "feedrank.dataClaim" -}}
{{ .Values.storage.data.existingClaim | default (printf "%s-data" .Release.Name) }}
{{- end }}

{{- define "feedrank.mlflowUri" -}}
{{ .Values.mlflow.externalUri | default (printf "http://%s-mlflow:5000" .Release.Name) }}
{{- end }}

{{- define "feedrank.predictorUrl" -}}
http://{{ .Release.Name }}-predictor.{{ .Release.Namespace }}.svc.cluster.local
{{- end }}

{{/* What every pod has: (list $ SERVICE_ACCOUNT). 65532 is the user of the images. */}}
{{- define "feedrank.pod" -}}
serviceAccountName: {{ (index . 0).Release.Name }}-{{ index . 1 }}
automountServiceAccountToken: false
enableServiceLinks: false
{{- with (index . 0).Values.images.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
securityContext:
  runAsNonRoot: true
  runAsUser: 65532
  runAsGroup: 65532
  fsGroup: 65532
  fsGroupChangePolicy: OnRootMismatch
  seccompProfile:
    type: RuntimeDefault
{{- end }}

{{/*
Where pods that mount the data claim run. A ReadWriteOnce claim is on one node at a time: then each joins the others, and
what the predictor asks of a node holds for all of them. MLflow has a claim and a node of its own.
*/}}
{{- define "feedrank.besideTheData" -}}
{{- if ne .Values.storage.data.accessMode "ReadWriteMany" -}}
affinity:
  podAffinity:
    requiredDuringSchedulingIgnoredDuringExecution:
      - topologyKey: kubernetes.io/hostname
        labelSelector:
          matchLabels:
            app.kubernetes.io/instance: {{ .Release.Name }}
          matchExpressions:
            - {key: app.kubernetes.io/component, operator: In, values: [predictor, etl, monitor, upkeep, retraining, rollback, promote, bootstrap]}
{{ include "feedrank.predictorNodes" . }}
{{- end }}
{{- end }}

{{- define "feedrank.predictorNodes" -}}
{{- with .Values.predictor.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.predictor.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{/* Image and security of every container: (list $ STAGE RESOURCES). */}}
{{- define "feedrank.container" -}}
{{- $root := index . 0 -}}
image: {{ include "feedrank.image" (list $root (index . 1)) }}
imagePullPolicy: {{ $root.Values.images.pullPolicy }}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities:
    drop: [ALL]
resources:
  {{- toYaml (get $root.Values.resources (index . 2)) | nindent 2 }}
{{- end }}

{{/* Environment of every container of ours. */}}
{{- define "feedrank.env" -}}
- name: FEEDRANK_CONFIG_DIR
  value: /etc/feedrank
{{- include "feedrank.s3Env" . }}
{{- end }}

{{- define "feedrank.s3Env" -}}
{{- include "feedrank.secretEnv" (include "feedrank.s3Secrets" .) }}
{{- range $name, $value := include "feedrank.s3Settings" . | fromYaml }}
- name: {{ $name }}
  value: {{ $value | quote }}
{{- end }}
{{- end }}

{{/* Environment variables from Secrets, as a map; Jobs and the tasks of KFP get the same. */}}
{{- define "feedrank.tokenSecrets" -}}
{{- with .Values.predictor.token }}
{{- if .existingSecret }}
FEEDRANK_TOKEN: {secret: {{ .existingSecret }}, key: {{ .key }}}
{{- end }}
{{- end }}
{{- end }}

{{- define "feedrank.s3Secrets" -}}
{{- with .Values.storage.s3.existingSecret }}
AWS_ACCESS_KEY_ID: {secret: {{ . }}, key: AWS_ACCESS_KEY_ID}
AWS_SECRET_ACCESS_KEY: {secret: {{ . }}, key: AWS_SECRET_ACCESS_KEY}
{{- end }}
{{- end }}

{{- define "feedrank.alertSecrets" -}}
{{- with .Values.monitor.alerts.existingSecret }}
FEEDRANK_SLACK_WEBHOOK: {secret: {{ . }}, key: FEEDRANK_SLACK_WEBHOOK, optional: true}
FEEDRANK_SMTP_USER: {secret: {{ . }}, key: FEEDRANK_SMTP_USER, optional: true}
FEEDRANK_SMTP_PASSWORD: {secret: {{ . }}, key: FEEDRANK_SMTP_PASSWORD, optional: true}
{{- end }}
{{- end }}

{{/* Such a map as a container's env. */}}
{{- define "feedrank.secretEnv" -}}
{{- range $name, $reference := . | fromYaml }}
- name: {{ $name }}
  valueFrom:
    secretKeyRef:
      name: {{ $reference.secret }}
      key: {{ $reference.key }}
      {{- if $reference.optional }}
      optional: true
      {{- end }}
{{- end }}
{{- end }}

{{/* Where S3 is, as environment variables. */}}
{{- define "feedrank.s3Settings" -}}
{{- with .Values.storage.s3 }}
{{- if or .existingSecret .endpoint }}
AWS_REGION: {{ .region }}
{{- end }}
{{- with .endpoint }}
AWS_ENDPOINT_URL: {{ . }}
{{- end }}
{{- end }}
{{- end }}

{{/* The predictor's token, for those who call it. */}}
{{- define "feedrank.tokenEnv" -}}
{{- include "feedrank.secretEnv" (include "feedrank.tokenSecrets" .) }}
{{- end }}

{{/* The served version, for NOTES.txt: promotion has set it on the live object. */}}
{{- define "feedrank.servedVersion" -}}
{{- $live := lookup "serving.kserve.io/v1beta1" "InferenceService" .Release.Namespace .Release.Name -}}
{{- dig "spec" "predictor" "annotations" "feedrank/model-version" .Values.predictor.modelVersion $live -}}
{{- end }}

{{/*
A step of a Job: (dict "root" $ "name" NAME "stage" IMAGE "command" LIST). Optional: "resources" (those of the stage by
default), "env" (text), "mounts" (text) and "api" (true: the ServiceAccount's token, which no other container of the pod gets).
*/}}
{{- define "feedrank.step" -}}
- name: {{ .name }}
  {{- include "feedrank.container" (list .root .stage (.resources | default .stage)) | nindent 2 }}
  command:
    {{- .command | toYaml | nindent 4 }}
  env:
    {{- include "feedrank.env" .root | nindent 4 }}
    {{- with .env }}
    {{- . | trim | nindent 4 }}
    {{- end }}
  volumeMounts:
    - name: config
      mountPath: /etc/feedrank
      readOnly: true
    - name: data
      mountPath: /data
    - name: tmp
      mountPath: /tmp
    {{- if .api }}
    - name: api-token
      mountPath: /var/run/secrets/kubernetes.io/serviceaccount
      readOnly: true
    {{- end }}
    {{- with .mounts }}
    {{- . | trim | nindent 4 }}
    {{- end }}
{{- end }}

{{/*
Before what reads or writes the tables: (list $ STAGE). What an earlier release left as folders becomes tables, and what is
one stays as it is. Here, and in no hook of the upgrade, since pods of the earlier release may write until they end.
*/}}
{{- define "feedrank.migration" -}}
{{- include "feedrank.step" (dict "root" (index . 0) "name" "migrate" "stage" (index . 1) "resources" "change"
  "command" (list "feedrank" "migrate" "--run-dir" "/data")) }}
{{- end }}

{{/* What `feedrank ingest` reads, as a YAML list. */}}
{{- define "feedrank.ingestArguments" -}}
{{- $arguments := .Values.interactions.inputs }}
{{- if .Values.interactions.mapping }}
{{- $arguments = concat $arguments (list "--mapping" "/etc/feedrank/mapping.yaml") }}
{{- end }}
{{- $arguments | toYaml }}
{{- end }}

{{/* When a CronJob runs, and that it never runs twice at a time: SCHEDULE. */}}
{{- define "feedrank.cronJob" -}}
schedule: {{ . | quote }}
timeZone: Etc/UTC
concurrencyPolicy: Forbid
startingDeadlineSeconds: 3600
successfulJobsHistoryLimit: 3
failedJobsHistoryLimit: 3
{{- end }}

{{/* The volumes of such steps. */}}
{{- define "feedrank.stepVolumes" -}}
- name: config
  configMap:
    name: {{ .Release.Name }}-jobs
- name: data
  persistentVolumeClaim:
    claimName: {{ include "feedrank.dataClaim" . }}
- name: tmp
  emptyDir:
    sizeLimit: 2Gi
{{- end }}

{{/* What Kubernetes would mount into every container of a pod, for some only. */}}
{{- define "feedrank.apiTokenVolume" -}}
- name: api-token
  projected:
    defaultMode: 0440
    sources:
      - serviceAccountToken:
          path: token
          expirationSeconds: 3600
      - configMap:
          name: kube-root-ca.crt
          items:
            - key: ca.crt
              path: ca.crt
      - downwardAPI:
          items:
            - path: namespace
              fieldRef:
                fieldPath: metadata.namespace
{{- end }}

{{/* Refuses what no schema can see. */}}
{{- define "feedrank.check" -}}
{{- if gt (len .Release.Name) 40 }}
{{- fail (printf "release name %q: at most 40 characters, since Kubernetes adds to it" .Release.Name) }}
{{- end }}
{{- if not (regexMatch "^[a-z]([-a-z0-9]*[a-z0-9])?$" .Release.Name) }}
{{- fail (printf "release name %q: must begin with a letter and have no dot, as it names the InferenceService" .Release.Name) }}
{{- end }}
{{- if not .Values.upkeep }}
{{- fail "upkeep is not set: --reuse-values keeps the values of an older chart, without what is new; use --reset-then-reuse-values" }}
{{- end }}
{{- if eq .Values.retraining.runner "job" }}
{{- range $name, $schedule := (get .Values.config "pipelines" | default dict).schedules }}
{{- if trim $schedule }}
{{- fail (printf "config.pipelines.schedules.%s: with retraining.runner: job the CronJobs do that work, and KFP's tasks may neither promote nor reach MLflow and the predictor; set retraining.runner: kfp, or leave the schedule out" $name) }}
{{- end }}
{{- end }}
{{- end }}
{{- if eq .Values.images.tag "latest" }}
{{- fail "images.tag: latest moves, and Kubernetes would not notice; name a version" }}
{{- end }}
{{- if eq .Values.storage.data.accessMode "ReadWriteOncePod" }}
{{- fail "storage.data.accessMode: with ReadWriteOncePod one pod at a time could use the claim, which predictor, ETL, monitor and retraining share; ReadWriteOnce keeps them on one node, ReadWriteMany lets them run on many" }}
{{- end }}
{{- $claim := include "feedrank.dataClaim" . }}
{{- $modes := dig "spec" "accessModes" list (lookup "v1" "PersistentVolumeClaim" .Release.Namespace $claim) }}
{{- with .Values.storage.data }}
{{- if and $modes (not (has .accessMode $modes)) (or (not .existingClaim) (eq .accessMode "ReadWriteMany")) }}
{{- fail (printf "storage.data.accessMode: %s, but the claim %s is %s, which Kubernetes does not change; set that, or copy the data to a claim of the other mode and name it in storage.data.existingClaim" .accessMode $claim (join ", " $modes)) }}
{{- end }}
{{- end }}
{{- if and (eq .Values.bootstrap.source "ingest") .Values.bootstrap.enabled (not .Values.interactions.inputs) }}
{{- fail "interactions.inputs: name the files to ingest, or set bootstrap.source to generate" }}
{{- end }}
{{- if and .Values.predictor.autoscaling.enabled (lt (int .Values.predictor.autoscaling.maxReplicas) (int .Values.predictor.replicas)) }}
{{- fail (printf "predictor.autoscaling.maxReplicas: %v is below predictor.replicas, %v" .Values.predictor.autoscaling.maxReplicas .Values.predictor.replicas) }}
{{- end }}
{{- end }}
