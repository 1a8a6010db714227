"""v1 Namespace, Node, Pod, Service and Event, with the field names of the Kubernetes API (1.31)."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from netlab.api.meta_types import (
    Condition,
    Ignored,
    Int64,
    IntOrString,
    LabelSelector,
    Object,
    Quantity,
    Struct,
)


class ObjectReference(Struct):
    """v1.ObjectReference."""

    apiVersion: str = ""
    kind: str = ""
    namespace: str = ""
    name: str = ""
    uid: str = ""
    resourceVersion: str = ""
    fieldPath: str = ""


# --- Namespace ---------------------------------------------------------------------------------------------------


class NamespaceSpec(Struct):
    """v1.NamespaceSpec."""

    finalizers: list[str] = []


class NamespaceStatus(Struct):
    """v1.NamespaceStatus; phase is Active or Terminating."""

    phase: str = ""
    conditions: list[Condition] = []


class Namespace(Object):
    """v1.Namespace."""

    spec: NamespaceSpec = msgspec.field(default_factory=NamespaceSpec)
    status: NamespaceStatus = msgspec.field(default_factory=NamespaceStatus)


# --- Node --------------------------------------------------------------------------------------------------------


class Taint(Struct):
    """v1.Taint; effect is NoSchedule, PreferNoSchedule or NoExecute."""

    key: str
    effect: str
    value: str = ""
    timeAdded: str | None = None


class NodeSpec(Struct):
    """v1.NodeSpec."""

    podCIDR: str = ""
    podCIDRs: list[str] = []
    providerID: str = ""
    unschedulable: bool = False
    taints: list[Taint] = []
    configSource: Ignored = None
    externalID: Ignored = None


class NodeAddress(Struct):
    """v1.NodeAddress; type is InternalIP, ExternalIP or Hostname."""

    type: str
    address: str


class NodeSystemInfo(Struct):
    """v1.NodeSystemInfo."""

    machineID: str = ""
    systemUUID: str = ""
    bootID: str = ""
    kernelVersion: str = ""
    osImage: str = ""
    containerRuntimeVersion: str = ""
    kubeletVersion: str = ""
    kubeProxyVersion: str = ""
    operatingSystem: str = ""
    architecture: str = ""
    swap: Ignored = None


ZONE_LABEL = "topology.kubernetes.io/zone"
"""On a Node: its zone."""

NETWORK_UNAVAILABLE = "NetworkUnavailable"
"""The Node condition that says why a node has no pod network."""


class DaemonEndpoint(Struct):
    """v1.DaemonEndpoint."""

    Port: int = 0


class NodeDaemonEndpoints(Struct):
    """v1.NodeDaemonEndpoints: where the node's kubelet serves."""

    kubeletEndpoint: DaemonEndpoint = msgspec.field(default_factory=DaemonEndpoint)


class ContainerImage(Struct):
    """v1.ContainerImage: an image that a node has."""

    names: list[str] = []
    sizeBytes: int = 0


class NodeStatus(Struct):
    """v1.NodeStatus."""

    capacity: dict[str, Quantity] = {}
    allocatable: dict[str, Quantity] = {}
    phase: str = ""
    conditions: list[Condition] = []
    addresses: list[NodeAddress] = []
    nodeInfo: NodeSystemInfo | None = None
    daemonEndpoints: NodeDaemonEndpoints | None = None
    images: list[ContainerImage] = []
    volumesInUse: Ignored = None
    volumesAttached: Ignored = None
    config: Ignored = None
    runtimeHandlers: Ignored = None
    features: Ignored = None


class Node(Object):
    """v1.Node."""

    spec: NodeSpec = msgspec.field(default_factory=NodeSpec)
    status: NodeStatus = msgspec.field(default_factory=NodeStatus)


# --- Pod ---------------------------------------------------------------------------------------------------------


class ObjectFieldSelector(Struct):
    """v1.ObjectFieldSelector: the downward API's path, such as `status.podIP`."""

    fieldPath: str
    apiVersion: str = ""


class ResourceFieldSelector(Struct):
    """v1.ResourceFieldSelector: what a container asks for or may use, such as `limits.cpu`, in units of a divisor.

    In a variable, an empty `containerName` means the variable's own container.
    """

    resource: str
    containerName: str = ""
    divisor: Quantity | None = None


class ConfigMapKeySelector(Struct):
    """v1.ConfigMapKeySelector."""

    key: str
    name: str = ""
    optional: bool | None = None


class SecretKeySelector(Struct):
    """v1.SecretKeySelector."""

    key: str
    name: str = ""
    optional: bool | None = None


class EnvVarSource(Struct):
    """v1.EnvVarSource: exactly one of its fields is set."""

    fieldRef: ObjectFieldSelector | None = None
    resourceFieldRef: ResourceFieldSelector | None = None
    configMapKeyRef: ConfigMapKeySelector | None = None
    secretKeyRef: SecretKeySelector | None = None


class ConfigMapEnvSource(Struct):
    """v1.ConfigMapEnvSource."""

    name: str = ""
    optional: bool | None = None


class SecretEnvSource(Struct):
    """v1.SecretEnvSource."""

    name: str = ""
    optional: bool | None = None


class EnvFromSource(Struct):
    """v1.EnvFromSource: every key is a variable."""

    prefix: str = ""
    configMapRef: ConfigMapEnvSource | None = None
    secretRef: SecretEnvSource | None = None


class EnvVar(Struct):
    """v1.EnvVar."""

    name: str
    value: str = ""
    valueFrom: EnvVarSource | None = None


class VolumeMount(Struct):
    """v1.VolumeMount."""

    name: str
    mountPath: str
    readOnly: bool = False
    mountPropagation: str | None = None
    recursiveReadOnly: str | None = None
    subPath: str = ""
    subPathExpr: str = ""


class ServiceAccountTokenProjection(Struct):
    """v1.ServiceAccountTokenProjection: a token of the pod's service account, renewed before it expires."""

    path: str
    audience: str = ""
    expirationSeconds: Int64 | None = None


class KeyToPath(Struct):
    """v1.KeyToPath."""

    key: str
    path: str
    mode: int | None = None


class ConfigMapProjection(Struct):
    """v1.ConfigMapProjection; without items, all keys."""

    name: str = ""
    items: list[KeyToPath] = []
    optional: bool | None = None


class SecretProjection(ConfigMapProjection):
    """v1.SecretProjection; without items, all keys."""


class DownwardAPIVolumeFile(Struct):
    """v1.DownwardAPIVolumeFile."""

    path: str
    fieldRef: ObjectFieldSelector | None = None
    resourceFieldRef: ResourceFieldSelector | None = None
    mode: int | None = None


class DownwardAPIProjection(Struct):
    """v1.DownwardAPIProjection."""

    items: list[DownwardAPIVolumeFile] = []


class VolumeProjection(Struct):
    """v1.VolumeProjection: exactly one of its fields is set."""

    serviceAccountToken: ServiceAccountTokenProjection | None = None
    configMap: ConfigMapProjection | None = None
    downwardAPI: DownwardAPIProjection | None = None
    secret: SecretProjection | None = None
    clusterTrustBundle: Ignored = None
    podCertificate: Ignored = None


class ProjectedVolumeSource(Struct):
    """v1.ProjectedVolumeSource: files of several sources in one directory."""

    sources: list[VolumeProjection] = []
    defaultMode: int | None = None


class ConfigMapVolumeSource(ConfigMapProjection):
    """v1.ConfigMapVolumeSource."""

    defaultMode: int | None = None


class SecretVolumeSource(Struct):
    """v1.SecretVolumeSource."""

    secretName: str = ""
    items: list[KeyToPath] = []
    defaultMode: int | None = None
    optional: bool | None = None


class DownwardAPIVolumeSource(DownwardAPIProjection):
    """v1.DownwardAPIVolumeSource."""

    defaultMode: int | None = None


class HostPathVolumeSource(Struct):
    """v1.HostPathVolumeSource: what the pod's node has at a path, or, with a type "…OrCreate", is to have."""

    path: str
    type: str = ""


class EmptyDirVolumeSource(Struct):
    """v1.EmptyDirVolumeSource: in memory, whatever its medium; with another than Memory, who exceeds it is evicted."""

    medium: str = ""
    sizeLimit: Quantity | None = None


class Volume(Struct):
    """v1.Volume: exactly one of its sources is set; those that are ignored are not made."""

    name: str
    projected: ProjectedVolumeSource | None = None
    configMap: ConfigMapVolumeSource | None = None
    secret: SecretVolumeSource | None = None
    downwardAPI: DownwardAPIVolumeSource | None = None
    emptyDir: EmptyDirVolumeSource | None = None
    hostPath: HostPathVolumeSource | None = None
    awsElasticBlockStore: Ignored = None
    azureDisk: Ignored = None
    azureFile: Ignored = None
    cephfs: Ignored = None
    cinder: Ignored = None
    csi: Ignored = None
    ephemeral: Ignored = None
    fc: Ignored = None
    flexVolume: Ignored = None
    flocker: Ignored = None
    gcePersistentDisk: Ignored = None
    gitRepo: Ignored = None
    glusterfs: Ignored = None
    image: Ignored = None
    iscsi: Ignored = None
    nfs: Ignored = None
    persistentVolumeClaim: Ignored = None
    photonPersistentDisk: Ignored = None
    portworxVolume: Ignored = None
    quobyte: Ignored = None
    rbd: Ignored = None
    scaleIO: Ignored = None
    storageos: Ignored = None
    vsphereVolume: Ignored = None


class ContainerPort(Struct):
    """v1.ContainerPort."""

    containerPort: int
    name: str = ""
    protocol: str = "TCP"
    hostPort: int = 0
    hostIP: str = ""


class HTTPHeader(Struct):
    """v1.HTTPHeader."""

    name: str
    value: str = ""


class HTTPGetAction(Struct):
    """v1.HTTPGetAction."""

    port: IntOrString
    path: str = "/"
    host: str = ""
    scheme: str = "HTTP"
    httpHeaders: list[HTTPHeader] = []


class TCPSocketAction(Struct):
    """v1.TCPSocketAction."""

    port: IntOrString
    host: str = ""


class ExecAction(Struct):
    """v1.ExecAction."""

    command: list[str] = []


class SeccompProfile(Struct):
    """v1.SeccompProfile; type is RuntimeDefault, Unconfined or Localhost."""

    type: str
    localhostProfile: Ignored = None


class Sysctl(Struct):
    """v1.Sysctl."""

    name: str = ""
    value: str = ""


class Capabilities(Struct):
    """v1.Capabilities; names without "CAP_"."""

    add: list[str] = []
    drop: list[str] = []


class PodSecurityContext(Struct):
    """v1.PodSecurityContext; what a container says of itself comes before it."""

    runAsUser: Int64 | None = None
    runAsGroup: Int64 | None = None
    runAsNonRoot: bool | None = None
    supplementalGroups: list[Int64] = []
    fsGroup: Int64 | None = None
    fsGroupChangePolicy: str | None = None
    seccompProfile: SeccompProfile | None = None
    sysctls: list[Sysctl] = []
    appArmorProfile: Ignored = None
    seLinuxChangePolicy: Ignored = None
    seLinuxOptions: Ignored = None
    supplementalGroupsPolicy: Ignored = None
    windowsOptions: Ignored = None


class SecurityContext(Struct):
    """v1.SecurityContext, of a container."""

    runAsUser: Int64 | None = None
    runAsGroup: Int64 | None = None
    runAsNonRoot: bool | None = None
    privileged: bool | None = None
    capabilities: Capabilities | None = None
    readOnlyRootFilesystem: bool | None = None
    allowPrivilegeEscalation: bool | None = None
    seccompProfile: SeccompProfile | None = None
    appArmorProfile: Ignored = None
    procMount: str | None = None
    seLinuxOptions: Ignored = None
    windowsOptions: Ignored = None


class GRPCAction(Struct):
    """v1.GRPCAction: grpc.health.v1 at a port of the pod."""

    port: int
    service: str | None = None


class SleepAction(Struct):
    """v1.SleepAction."""

    seconds: Int64


class Probe(Struct):
    """v1.Probe; times in seconds."""

    httpGet: HTTPGetAction | None = None
    tcpSocket: TCPSocketAction | None = None
    exec: ExecAction | None = None
    grpc: GRPCAction | None = None
    initialDelaySeconds: int = 0
    timeoutSeconds: int = 1
    periodSeconds: int = 10
    successThreshold: int = 1
    failureThreshold: int = 3
    terminationGracePeriodSeconds: Int64 | None = None


class LifecycleHandler(Struct):
    """v1.LifecycleHandler."""

    exec: ExecAction | None = None
    httpGet: HTTPGetAction | None = None
    tcpSocket: TCPSocketAction | None = None
    sleep: SleepAction | None = None


class Lifecycle(Struct):
    """v1.Lifecycle."""

    postStart: LifecycleHandler | None = None
    preStop: LifecycleHandler | None = None
    stopSignal: Ignored = None


class ResourceRequirements(Struct):
    """v1.ResourceRequirements: requests decide the pod's node and qosClass; limits hold where there are cgroups."""

    limits: dict[str, Quantity] = {}
    requests: dict[str, Quantity] = {}
    claims: Ignored = None


class ContainerRestartRuleOnExitCodes(Struct):
    """v1.ContainerRestartRuleOnExitCodes; operator is In or NotIn."""

    operator: str
    values: list[int] = []


class ContainerRestartRule(Struct):
    """v1.ContainerRestartRule; the only action is Restart (of RestartAllContainers nothing is known here)."""

    action: str
    exitCodes: ContainerRestartRuleOnExitCodes | None = None


class Container(Struct):
    """v1.Container. Of init containers, one whose restartPolicy is Always is a sidecar (KEP-753)."""

    name: str
    image: str = ""
    command: list[str] = []
    args: list[str] = []
    workingDir: str = ""
    ports: list[ContainerPort] = []
    env: list[EnvVar] = []
    envFrom: list[EnvFromSource] = []
    livenessProbe: Probe | None = None
    readinessProbe: Probe | None = None
    startupProbe: Probe | None = None
    lifecycle: Lifecycle | None = None
    volumeMounts: list[VolumeMount] = []
    imagePullPolicy: str = ""
    terminationMessagePath: str = ""
    terminationMessagePolicy: str = ""
    resources: ResourceRequirements | None = None
    restartPolicy: str | None = None
    restartPolicyRules: list[ContainerRestartRule] = []
    resizePolicy: Ignored = None
    securityContext: SecurityContext | None = None
    volumeDevices: Ignored = None
    stdin: bool = False
    stdinOnce: bool = False
    tty: bool = False


MIRROR_POD = "kubernetes.io/config.mirror"
"""The annotation of a pod that stands for one that a kubelet has from elsewhere."""


class EphemeralContainer(Container):
    """v1.EphemeralContainer: added to a pod that is there, to look into it; never restarted."""

    targetContainerName: str = ""


class HostAlias(Struct):
    """v1.HostAlias: a line of the pod's /etc/hosts."""

    ip: str
    hostnames: list[str] = []


class PodDNSConfigOption(Struct):
    """v1.PodDNSConfigOption."""

    name: str
    value: str | None = None


class PodDNSConfig(Struct):
    """v1.PodDNSConfig."""

    nameservers: list[str] = []
    searches: list[str] = []
    options: list[PodDNSConfigOption] = []


class Toleration(Struct):
    """v1.Toleration; operator is Exists or Equal."""

    key: str = ""
    operator: str = ""
    value: str = ""
    effect: str = ""
    tolerationSeconds: Int64 | None = None


class NodeSelectorRequirement(Struct):
    """v1.NodeSelectorRequirement; operator is In, NotIn, Exists, DoesNotExist, Gt or Lt."""

    key: str
    operator: str
    values: list[str] = []


class NodeSelectorTerm(Struct):
    """v1.NodeSelectorTerm: all requirements must hold; the only field of a node is metadata.name."""

    matchExpressions: list[NodeSelectorRequirement] = []
    matchFields: list[NodeSelectorRequirement] = []


class NodeSelector(Struct):
    """v1.NodeSelector: one of the terms must hold."""

    nodeSelectorTerms: list[NodeSelectorTerm]


class PreferredSchedulingTerm(Struct):
    """v1.PreferredSchedulingTerm; weight is 1 to 100."""

    weight: int
    preference: NodeSelectorTerm


class NodeAffinity(Struct):
    """v1.NodeAffinity."""

    requiredDuringSchedulingIgnoredDuringExecution: NodeSelector | None = None
    preferredDuringSchedulingIgnoredDuringExecution: list[PreferredSchedulingTerm] = []


class PodAffinityTerm(Struct):
    """v1.PodAffinityTerm: pods that are selected in the namespaces, in the same domain of topologyKey."""

    topologyKey: str
    labelSelector: LabelSelector | None = None
    namespaces: list[str] = []
    namespaceSelector: LabelSelector | None = None
    matchLabelKeys: list[str] = []
    mismatchLabelKeys: list[str] = []


class WeightedPodAffinityTerm(Struct):
    """v1.WeightedPodAffinityTerm; weight is 1 to 100."""

    weight: int
    podAffinityTerm: PodAffinityTerm


class PodAffinity(Struct):
    """v1.PodAffinity."""

    requiredDuringSchedulingIgnoredDuringExecution: list[PodAffinityTerm] = []
    preferredDuringSchedulingIgnoredDuringExecution: list[WeightedPodAffinityTerm] = []


class PodAntiAffinity(Struct):
    """v1.PodAntiAffinity."""

    requiredDuringSchedulingIgnoredDuringExecution: list[PodAffinityTerm] = []
    preferredDuringSchedulingIgnoredDuringExecution: list[WeightedPodAffinityTerm] = []


class Affinity(Struct):
    """v1.Affinity."""

    nodeAffinity: NodeAffinity | None = None
    podAffinity: PodAffinity | None = None
    podAntiAffinity: PodAntiAffinity | None = None


class TopologySpreadConstraint(Struct):
    """v1.TopologySpreadConstraint; whenUnsatisfiable is DoNotSchedule or ScheduleAnyway, a policy Honor or Ignore."""

    maxSkew: int
    topologyKey: str
    whenUnsatisfiable: str
    labelSelector: LabelSelector | None = None
    minDomains: int | None = None
    nodeAffinityPolicy: str | None = None
    nodeTaintsPolicy: str | None = None
    matchLabelKeys: list[str] = []


class PodSchedulingGate(Struct):
    """v1.PodSchedulingGate: while a pod has one, no node is looked for."""

    name: str


class PodReadinessGate(Struct):
    """v1.PodReadinessGate."""

    conditionType: str


class PodSpec(Struct):
    """v1.PodSpec."""

    containers: list[Container]
    initContainers: list[Container] = []
    nodeName: str = ""
    nodeSelector: dict[str, str] = {}
    restartPolicy: str = ""
    terminationGracePeriodSeconds: Int64 | None = None
    hostNetwork: bool = False
    hostname: str = ""
    subdomain: str = ""
    setHostnameAsFQDN: bool | None = None
    hostAliases: list[HostAlias] = []
    dnsPolicy: str = ""
    dnsConfig: PodDNSConfig | None = None
    tolerations: list[Toleration] = []
    enableServiceLinks: bool | None = None
    readinessGates: list[PodReadinessGate] = []
    schedulerName: str = ""
    activeDeadlineSeconds: Int64 | None = None
    affinity: Affinity | None = None
    topologySpreadConstraints: list[TopologySpreadConstraint] = []
    schedulingGates: list[PodSchedulingGate] = []
    priorityClassName: str = ""
    priority: int | None = None
    preemptionPolicy: str | None = None
    overhead: dict[str, Quantity] = {}
    resources: ResourceRequirements | None = None
    serviceAccountName: str = ""
    serviceAccount: str = ""
    automountServiceAccountToken: bool | None = None
    volumes: list[Volume] = []
    ephemeralContainers: list[EphemeralContainer] = []
    hostIPC: bool = False
    hostPID: bool = False
    shareProcessNamespace: bool | None = None
    hostUsers: Ignored = None
    hostnameOverride: Ignored = None
    imagePullSecrets: Ignored = None
    os: Ignored = None
    resourceClaims: Ignored = None
    runtimeClassName: str | None = None
    securityContext: PodSecurityContext | None = None

    def all_containers(self) -> Iterator[Container]:
        """Those that are run first, those that the pod is for, and those that were added later."""
        yield from self.initContainers
        yield from self.containers
        yield from self.ephemeralContainers


class PodIP(Struct):
    """v1.PodIP (and v1.HostIP)."""

    ip: str


class ContainerStateWaiting(Struct):
    """v1.ContainerStateWaiting."""

    reason: str = ""
    message: str = ""


class ContainerStateRunning(Struct):
    """v1.ContainerStateRunning."""

    startedAt: str | None = None


class ContainerStateTerminated(Struct):
    """v1.ContainerStateTerminated."""

    exitCode: int
    signal: int = 0
    reason: str = ""
    message: str = ""
    startedAt: str | None = None
    finishedAt: str | None = None
    containerID: str = ""


class ContainerState(Struct):
    """v1.ContainerState: exactly one of the three is set."""

    waiting: ContainerStateWaiting | None = None
    running: ContainerStateRunning | None = None
    terminated: ContainerStateTerminated | None = None


class ContainerStatus(Struct):
    """v1.ContainerStatus."""

    name: str
    ready: bool
    restartCount: int
    image: str
    imageID: str
    containerID: str = ""
    started: bool | None = None
    state: ContainerState = msgspec.field(default_factory=ContainerState)
    lastState: ContainerState = msgspec.field(default_factory=ContainerState)
    allocatedResources: Ignored = None
    allocatedResourcesStatus: Ignored = None
    resources: Ignored = None
    stopSignal: Ignored = None
    user: Ignored = None
    volumeMounts: Ignored = None


class PodStatus(Struct):
    """v1.PodStatus; phase is Pending, Running, Succeeded, Failed or Unknown."""

    phase: str = ""
    conditions: list[Condition] = []
    message: str = ""
    reason: str = ""
    hostIP: str = ""
    hostIPs: list[PodIP] = []
    podIP: str = ""
    podIPs: list[PodIP] = []
    startTime: str | None = None
    initContainerStatuses: list[ContainerStatus] = []
    containerStatuses: list[ContainerStatus] = []
    qosClass: str = ""
    nominatedNodeName: str = ""
    observedGeneration: Int64 | None = None
    ephemeralContainerStatuses: list[ContainerStatus] = []
    resize: Ignored = None
    resourceClaimStatuses: Ignored = None


class Pod(Object, kw_only=True):
    """v1.Pod."""

    spec: PodSpec
    status: PodStatus = msgspec.field(default_factory=PodStatus)


# --- Service -----------------------------------------------------------------------------------------------------


class ServicePort(Struct):
    """v1.ServicePort; targetPort defaults to port."""

    port: int
    name: str = ""
    protocol: str = "TCP"
    targetPort: IntOrString | None = None
    nodePort: int = 0
    appProtocol: str | None = None


class ClientIPConfig(Struct):
    """v1.ClientIPConfig."""

    timeoutSeconds: int | None = None


class SessionAffinityConfig(Struct):
    """v1.SessionAffinityConfig."""

    clientIP: ClientIPConfig | None = None


class ServiceSpec(Struct):
    """v1.ServiceSpec."""

    type: str = ""
    selector: dict[str, str] = {}
    ports: list[ServicePort] = []
    clusterIP: str = ""
    clusterIPs: list[str] = []
    ipFamilies: list[str] = []
    ipFamilyPolicy: str | None = None
    externalIPs: list[str] = []
    externalName: str = ""
    externalTrafficPolicy: str = ""
    internalTrafficPolicy: str | None = None
    sessionAffinity: str = ""
    sessionAffinityConfig: SessionAffinityConfig | None = None
    loadBalancerIP: str = ""
    loadBalancerSourceRanges: list[str] = []
    loadBalancerClass: str | None = None
    allocateLoadBalancerNodePorts: bool | None = None
    healthCheckNodePort: int = 0
    publishNotReadyAddresses: bool = False
    trafficDistribution: str | None = None


class PortStatus(Struct):
    """v1.PortStatus."""

    port: int
    protocol: str
    error: str | None = None


class LoadBalancerIngress(Struct):
    """v1.LoadBalancerIngress; ipMode is VIP or Proxy."""

    ip: str = ""
    hostname: str = ""
    ipMode: str | None = None
    ports: list[PortStatus] = []


class LoadBalancerStatus(Struct):
    """v1.LoadBalancerStatus."""

    ingress: list[LoadBalancerIngress] = []


class ServiceStatus(Struct):
    """v1.ServiceStatus."""

    loadBalancer: LoadBalancerStatus = msgspec.field(default_factory=LoadBalancerStatus)
    conditions: list[Condition] = []


class Service(Object):
    """v1.Service."""

    spec: ServiceSpec = msgspec.field(default_factory=ServiceSpec)
    status: ServiceStatus = msgspec.field(default_factory=ServiceStatus)


# --- Event -------------------------------------------------------------------------------------------------------


class EventSource(Struct):
    """v1.EventSource."""

    component: str = ""
    host: str = ""


class Event(Object):
    """v1.Event; type is Normal or Warning."""

    involvedObject: ObjectReference = msgspec.field(default_factory=ObjectReference)
    reason: str = ""
    message: str = ""
    type: str = ""
    source: EventSource = msgspec.field(default_factory=EventSource)
    firstTimestamp: str | None = None
    lastTimestamp: str | None = None
    eventTime: str | None = None
    count: int = 0
    action: str = ""
    related: ObjectReference | None = None
    reportingComponent: str = ""
    reportingInstance: str = ""
    series: Ignored = None
